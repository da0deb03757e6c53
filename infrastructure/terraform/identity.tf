resource "google_service_account" "worker" {
  account_id   = "strongroom"
  display_name = "Strongroom: backups"
}

# Runs query, extract and copy jobs, and sees only its own.
resource "google_project_iam_member" "job_user" {
  project = var.project_id
  role    = "roles/bigquery.jobUser"
  member  = google_service_account.worker.member
}

# Whether a writer is still running is seen in everyone's jobs.
resource "google_project_iam_custom_role" "see_jobs" {
  role_id     = "strongroomSeeJobs"
  title       = "Strongroom: see running jobs"
  permissions = ["bigquery.jobs.listAll"]
}

resource "google_project_iam_member" "see_jobs" {
  project = var.project_id
  role    = google_project_iam_custom_role.see_jobs.id
  member  = google_service_account.worker.member
}

# Reads, exports and snapshots the dataset, with its policies.
resource "google_project_iam_custom_role" "read_dataset" {
  role_id = "strongroomReadDataset"
  title   = "Strongroom: read a dataset and its policies"
  permissions = [
    "bigquery.datasets.get",
    "bigquery.datasets.getIamPolicy",
    "bigquery.routines.get",
    "bigquery.routines.list",
    "bigquery.rowAccessPolicies.getIamPolicy",
    "bigquery.rowAccessPolicies.list",
    "bigquery.tables.createSnapshot",
    "bigquery.tables.export",
    "bigquery.tables.get",
    "bigquery.tables.getData",
    "bigquery.tables.getIamPolicy",
    "bigquery.tables.list",
  ]
}

resource "google_bigquery_dataset_iam_member" "read_dataset" {
  dataset_id = var.dataset
  role       = google_project_iam_custom_role.read_dataset.id
  member     = google_service_account.worker.member
}

# Snapshots live in a dataset of their own, which the worker owns.
resource "google_bigquery_dataset" "snapshots" {
  dataset_id  = "${var.dataset}_snapshots"
  location    = var.location
  description = "Snapshots taken by Strongroom; they expire by themselves."
  labels      = { purpose = "backup" }
}

resource "google_bigquery_dataset_iam_member" "snapshots" {
  dataset_id = google_bigquery_dataset.snapshots.dataset_id
  role       = "roles/bigquery.dataOwner"
  member     = google_service_account.worker.member
}

# Pauses and resumes ingestion: no right to create, change or delete a job.
resource "google_project_iam_custom_role" "valve" {
  count = var.ingestion_jobs_role ? 1 : 0

  role_id = "strongroomValve"
  title   = "Strongroom: pause and resume scheduled jobs"
  permissions = [
    "cloudscheduler.jobs.enable",
    "cloudscheduler.jobs.get",
    "cloudscheduler.jobs.list",
    "cloudscheduler.jobs.pause",
  ]
}

resource "google_project_iam_member" "valve" {
  count = var.ingestion_jobs_role ? 1 : 0

  project = var.project_id
  role    = google_project_iam_custom_role.valve[0].id
  member  = google_service_account.worker.member
}
