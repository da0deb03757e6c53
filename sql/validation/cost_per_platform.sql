-- name: cost_per_platform
-- title: Every platform costs what it did when the backup was taken.
-- expect: recorded
-- checklist: allocation
-- critical: yes
SELECT platform, SUM(input_cost_usd) AS input_cost_usd, SUM(output_cost_usd) AS output_cost_usd, SUM(cost_usd) AS cost_usd
FROM `${project_id}.${dataset}.fct_cost_daily`
GROUP BY platform
ORDER BY platform;
