# Who may do what with backups, as four roles: who writes them cannot read, replace or delete them; who reads them cannot
# change them; who removes them, and what dead runs left, sees no warehouse; who rehearses a disaster sees the backups and
# makes scratch datasets.

locals {
  # What the worker's configuration calls `home` (journal, lease) and `staging` (where BigQuery writes before files are moved on).
  working = ["home", "staging"]

  roles = {
    write = ["storage.buckets.get", "storage.objects.create"]
    read  = ["storage.buckets.get", "storage.objects.get", "storage.objects.list"]
    # `update` sets an object's custom time, which the lifecycle counts from, and holds; `create` puts a tombstone in place of a
    # manifest that might still be under way.
    prune = [
      "storage.buckets.get",
      "storage.objects.create",
      "storage.objects.delete",
      "storage.objects.get",
      "storage.objects.list",
      "storage.objects.update",
    ]
    drill = ["storage.buckets.get", "storage.objects.get", "storage.objects.list"]
  }
}

resource "google_service_account" "role" {
  for_each = var.separate_roles ? local.roles : {}

  account_id   = "strongroom-${each.key}"
  display_name = "Strongroom: ${each.key}"
}

resource "google_project_iam_custom_role" "role" {
  for_each = local.roles

  role_id     = "strongroom${title(each.key)}"
  title       = "Strongroom: ${each.key} backups"
  permissions = each.value
}

resource "google_storage_bucket" "working" {
  for_each = toset(var.separate_roles ? local.working : [])

  name                        = "${local.prefix}-${each.key}"
  location                    = var.location
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  soft_delete_policy {
    retention_duration_seconds = 0
  }

  # What an interrupted run left in the staging bucket; `strongroom recover` is first.
  dynamic "lifecycle_rule" {
    for_each = each.key == "staging" ? [1] : []
    content {
      condition {
        age = 7
      }
      action {
        type = "Delete"
      }
    }
  }
}

locals {
  # Every role on every tier's bucket.
  on_tiers = { for pair in setproduct(keys(local.roles), keys(local.tiers)) : "${pair[0]}-${pair[1]}" => pair }
  # Journal and lease are everybody's; who only reads needs no staging bucket.
  on_working = concat(
    [for role in keys(local.roles) : [role, "home"]],
    [for role in ["write", "prune", "drill"] : [role, "staging"]],
  )
}

resource "google_storage_bucket_iam_member" "role" {
  for_each = var.separate_roles ? local.on_tiers : {}

  bucket = google_storage_bucket.tier[each.value[1]].name
  role   = google_project_iam_custom_role.role[each.value[0]].id
  member = google_service_account.role[each.value[0]].member
}

resource "google_storage_bucket_iam_member" "working" {
  for_each = { for pair in var.separate_roles ? local.on_working : [] : "${pair[0]}-${pair[1]}" => pair }

  bucket = google_storage_bucket.working[each.value[1]].name
  role   = "roles/storage.objectUser"
  member = google_service_account.role[each.value[0]].member
}

resource "google_storage_bucket_iam_member" "working_bucket" {
  for_each = { for pair in var.separate_roles ? local.on_working : [] : "${pair[0]}-${pair[1]}" => pair }

  bucket = google_storage_bucket.working[each.value[1]].name
  role   = "roles/storage.legacyBucketReader"
  member = google_service_account.role[each.value[0]].member
}

# The writer reads the dataset and runs extracts; whoever rehearses makes datasets of his own.
resource "google_bigquery_dataset_iam_member" "writer" {
  count = var.separate_roles ? 1 : 0

  dataset_id = var.dataset
  role       = google_project_iam_custom_role.read_dataset.id
  member     = google_service_account.role["write"].member
}

resource "google_bigquery_dataset_iam_member" "role_snapshots" {
  for_each = toset(var.separate_roles ? ["write", "prune"] : [])

  dataset_id = google_bigquery_dataset.snapshots.dataset_id
  role       = "roles/bigquery.dataOwner"
  member     = google_service_account.role[each.key].member
}

resource "google_project_iam_member" "runs_jobs" {
  for_each = toset(var.separate_roles ? ["write", "drill"] : [])

  project = var.project_id
  role    = each.key == "drill" ? "roles/bigquery.user" : "roles/bigquery.jobUser"
  member  = google_service_account.role[each.key].member
}

resource "google_project_iam_member" "writer_sees_jobs" {
  count = var.separate_roles ? 1 : 0

  project = var.project_id
  role    = google_project_iam_custom_role.see_jobs.id
  member  = google_service_account.role["write"].member
}

resource "google_project_iam_member" "writer_valve" {
  count = var.separate_roles && var.ingestion_jobs_role ? 1 : 0

  project = var.project_id
  role    = google_project_iam_custom_role.valve[0].id
  member  = google_service_account.role["write"].member
}
