-- name: rows_fct_usage_daily
-- title: Daily usage has as many rows as when the backup was taken.
-- expect: recorded
-- critical: yes
SELECT COUNT(*) AS row_count
FROM `${project_id}.${dataset}.fct_usage_daily`
ORDER BY row_count;
