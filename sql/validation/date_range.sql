-- name: date_range
-- title: Usage and cost begin and end on the same days as when the backup was taken.
-- expect: recorded
-- checklist: dates
-- critical: yes
SELECT 'usage' AS fact, MIN(usage_date) AS first_day, MAX(usage_date) AS last_day, COUNT(DISTINCT usage_date) AS days
FROM `${project_id}.${dataset}.fct_usage_daily`
UNION ALL
SELECT 'cost' AS fact, MIN(usage_date) AS first_day, MAX(usage_date) AS last_day, COUNT(DISTINCT usage_date) AS days
FROM `${project_id}.${dataset}.fct_cost_daily`
ORDER BY fact;
