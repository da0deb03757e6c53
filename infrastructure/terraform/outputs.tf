output "service_account" {
  description = "Share the spreadsheet with this address."
  value       = google_service_account.worker.email
}

output "buckets" {
  description = "Where the tiers are kept."
  value       = { for tier, bucket in google_storage_bucket.tier : tier => "gs://${bucket.name}" }
}
