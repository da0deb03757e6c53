-- name: rows_stg_llm_requests
-- title: The raw trace has as many rows as when the backup was taken.
-- expect: recorded
-- critical: yes
SELECT COUNT(*) AS row_count
FROM `${project_id}.${dataset}.stg_llm_requests`
ORDER BY row_count;
