resource "google_secret_manager_secret" "config" {
  secret_id = "strongroom-config"
  replication {
    auto {}
  }
}

resource "google_secret_manager_secret_version" "config" {
  secret      = google_secret_manager_secret.config.id
  secret_data = file(var.config_file)
}

resource "google_secret_manager_secret_iam_member" "config" {
  secret_id = google_secret_manager_secret.config.id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.worker.member
}

locals {
  # `recover` resumes whatever an interrupted run left paused beyond its deadline.
  runs = merge(
    { for tier, settings in local.tiers : tier => { args = ["backup", "--tier", tier], schedule = settings.schedule } },
    { recover = { args = ["recover"], schedule = "*/15 * * * *" } },
  )
}

resource "google_cloud_run_v2_job" "run" {
  for_each = local.runs

  name                = "strongroom-${each.key}"
  location            = var.region
  deletion_protection = false

  template {
    template {
      service_account = google_service_account.worker.email
      timeout         = "14400s"
      # A second attempt would be a second backup; what was interrupted is put right by `recover`.
      max_retries = 0

      containers {
        image = var.image
        args  = concat(["--config", "/etc/strongroom/config.toml"], each.value.args)

        env {
          name  = "GOOGLE_CLOUD_PROJECT"
          value = var.project_id
        }
        env {
          name  = "BACKUP_BUCKET_PREFIX"
          value = local.prefix
        }
        env {
          name  = "MAPPINGS_SPREADSHEET_ID"
          value = var.spreadsheet_id
        }

        resources {
          limits = { cpu = "2", memory = "2Gi" }
        }

        volume_mounts {
          name       = "config"
          mount_path = "/etc/strongroom"
        }
      }

      volumes {
        name = "config"
        secret {
          secret = google_secret_manager_secret.config.secret_id
          items {
            version = "latest"
            path    = "config.toml"
          }
        }
      }
    }
  }

  depends_on = [google_secret_manager_secret_version.config, google_secret_manager_secret_iam_member.config]
}

resource "google_service_account" "trigger" {
  account_id   = "strongroom-trigger"
  display_name = "Strongroom: starts the worker on schedule"
}

resource "google_cloud_run_v2_job_iam_member" "trigger" {
  for_each = local.runs

  name     = google_cloud_run_v2_job.run[each.key].name
  location = var.region
  role     = "roles/run.invoker"
  member   = google_service_account.trigger.member
}

resource "google_cloud_scheduler_job" "trigger" {
  for_each = local.runs

  name      = "strongroom-${each.key}"
  region    = var.region
  schedule  = each.value.schedule
  time_zone = "Etc/UTC"

  http_target {
    http_method = "POST"
    uri         = "https://run.googleapis.com/v2/${google_cloud_run_v2_job.run[each.key].id}:run"

    oauth_token {
      service_account_email = google_service_account.trigger.email
    }
  }
}
