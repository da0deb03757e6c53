variable "project_id" {
  description = "The project that holds the warehouse and the backups."
  type        = string
}

variable "region" {
  description = "Where the worker and its triggers run."
  type        = string
  default     = "us-central1"
}

variable "location" {
  description = "Location of the buckets; BigQuery extracts only into the dataset's own location."
  type        = string
  default     = "US"
}

variable "dataset" {
  description = "The dataset that is backed up."
  type        = string
  default     = "ai_usage_analytics"
}

variable "bucket_prefix" {
  description = "Buckets are named PREFIX-daily, PREFIX-weekly and PREFIX-monthly. Empty: PROJECT-backup."
  type        = string
  default     = ""
}

variable "image" {
  description = "The worker's image, built from the Dockerfile."
  type        = string
}

variable "config_file" {
  description = "The worker's configuration; it is stored as a secret and mounted."
  type        = string
  default     = "../../examples/ai-usage-analytics.toml"
}

variable "spreadsheet_id" {
  description = "The spreadsheet with the key-to-user mapping."
  type        = string
}

variable "ingestion_jobs_role" {
  description = "Whether the worker may pause and resume Cloud Scheduler jobs."
  type        = bool
  default     = true
}

variable "allow_restore" {
  description = "Also grant what a restore into this project needs. Off: the nightly identity cannot write to the warehouse."
  type        = bool
  default     = false
}

variable "separate_roles" {
  description = "Also make one service account for each of writing, reading, removing and rehearsing, see roles.tf."
  type        = bool
  default     = false
}

locals {
  prefix = var.bucket_prefix == "" ? "${var.project_id}-backup" : var.bucket_prefix

  # How long backups are kept is decided by the configuration.
  tiers = {
    daily   = { class = "STANDARD", schedule = "0 2 * * *" }
    weekly  = { class = "NEARLINE", schedule = "0 3 * * 0" }
    monthly = { class = "ARCHIVE", schedule = "0 4 1 * *" }
  }
}
