-- name: rows_dim_api_key_user
-- title: The mapping of keys to people has as many rows as when the backup was taken.
-- expect: recorded
-- critical: yes
SELECT COUNT(*) AS row_count
FROM `${project_id}.${dataset}.dim_api_key_user`
ORDER BY row_count;
