-- name: cost_exists
-- title: There is at least one line of cost above zero.
-- expect: rows >= 1
-- checklist: costs
-- critical: yes
SELECT usage_date, platform, SUM(cost_usd) AS cost_usd
FROM `${project_id}.${dataset}.fct_cost_daily`
WHERE cost_usd > 0
GROUP BY usage_date, platform
ORDER BY usage_date, platform;
