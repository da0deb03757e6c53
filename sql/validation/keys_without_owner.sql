-- name: keys_without_owner
-- title: The keys that nobody owns are the ones that were known when the backup was taken.
-- expect: recorded
-- critical: no
SELECT u.api_key_id, u.platform, SUM(u.requests) AS requests
FROM `${project_id}.${dataset}.fct_usage_daily` AS u
LEFT JOIN `${project_id}.${dataset}.dim_api_key_user` AS k
  ON k.api_key_id = u.api_key_id
WHERE k.api_key_id IS NULL
GROUP BY u.api_key_id, u.platform
ORDER BY u.api_key_id, u.platform;
