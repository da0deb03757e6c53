-- name: rows_dim_model_price
-- title: The price list has as many rows as when the backup was taken.
-- expect: recorded
-- critical: yes
SELECT COUNT(*) AS row_count
FROM `${project_id}.${dataset}.dim_model_price`
ORDER BY row_count;
