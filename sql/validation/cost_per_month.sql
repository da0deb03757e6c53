-- name: cost_per_month
-- title: The cost of every month is the same to the last digit.
-- expect: recorded
-- checklist: costs
-- critical: yes
SELECT DATE_TRUNC(usage_date, MONTH) AS month, SUM(cost_usd) AS cost_usd
FROM `${project_id}.${dataset}.fct_cost_daily`
GROUP BY month
ORDER BY month;
