-- name: tokens_per_month
-- title: Requests and tokens of every month are the same.
-- expect: recorded
-- checklist: reports
-- critical: yes
SELECT
  DATE_TRUNC(usage_date, MONTH) AS month,
  platform,
  SUM(requests) AS requests,
  SUM(input_tokens) AS input_tokens,
  SUM(output_tokens) AS output_tokens
FROM `${project_id}.${dataset}.fct_usage_daily`
GROUP BY month, platform
ORDER BY month, platform;
