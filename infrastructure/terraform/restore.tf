# What only a restore needs. A separate switch, so that the identity of every night cannot overwrite the warehouse.

resource "google_project_iam_member" "create_datasets" {
  count = var.allow_restore ? 1 : 0

  project = var.project_id
  role    = "roles/bigquery.user"
  member  = google_service_account.worker.member
}

resource "google_bigquery_dataset_iam_member" "write_dataset" {
  count = var.allow_restore ? 1 : 0

  dataset_id = var.dataset
  role       = "roles/bigquery.dataOwner"
  member     = google_service_account.worker.member
}
