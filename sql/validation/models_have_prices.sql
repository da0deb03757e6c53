-- name: models_have_prices
-- title: Every model that was used has a price.
-- expect: no_rows
-- critical: no
SELECT DISTINCT u.model
FROM `${project_id}.${dataset}.fct_usage_daily` AS u
LEFT JOIN `${project_id}.${dataset}.dim_model_price` AS p
  ON p.model = u.model
WHERE p.input_usd_per_token IS NULL OR p.output_usd_per_token IS NULL
ORDER BY model;
