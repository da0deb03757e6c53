resource "google_storage_bucket" "tier" {
  for_each = local.tiers

  name                        = "${local.prefix}-${each.key}"
  location                    = var.location
  storage_class               = each.value.class
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  labels = {
    purpose = "backup"
    tier    = each.key
  }

  # An extract rewrites its files: with soft delete every rewrite would be kept and billed.
  soft_delete_policy {
    retention_duration_seconds = 0
  }

  # What retention condemned and could not remove (`strongroom buckets plan` says the same). A rule that deletes by age
  # would empty the bucket when backups stop.
  lifecycle_rule {
    condition {
      days_since_custom_time = 14
      matches_prefix         = ["${each.key}/"]
    }
    action {
      type = "Delete"
    }
  }

  lifecycle_rule {
    condition {
      age = 7
    }
    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }

  # A backup must not vanish because someone tidied up a plan.
  lifecycle {
    prevent_destroy = true
  }
}

resource "google_storage_bucket_iam_member" "objects" {
  for_each = local.tiers

  bucket = google_storage_bucket.tier[each.key].name
  role   = "roles/storage.objectUser"
  member = google_service_account.worker.member
}

# Reads the bucket's location and lifecycle.
resource "google_storage_bucket_iam_member" "bucket" {
  for_each = local.tiers

  bucket = google_storage_bucket.tier[each.key].name
  role   = "roles/storage.legacyBucketReader"
  member = google_service_account.worker.member
}
