-- name: rows_fct_cost_daily
-- title: Daily cost has as many rows as when the backup was taken.
-- expect: recorded
-- critical: yes
SELECT COUNT(*) AS row_count
FROM `${project_id}.${dataset}.fct_cost_daily`
ORDER BY row_count;
