-- One line per day and platform: requests, tokens, cost.
CREATE OR REPLACE VIEW `${project_id}.${dataset}.vw_daily_totals`
OPTIONS (
  description = 'Requests, tokens and cost per day and platform',
  labels = [('audience', 'finance')]
)
AS
SELECT
  u.usage_date,
  u.platform,
  u.requests,
  u.tokens,
  c.cost_usd
FROM (
  SELECT usage_date, platform, SUM(requests) AS requests, SUM(input_tokens + output_tokens) AS tokens
  FROM `${project_id}.${dataset}.fct_usage_daily`
  GROUP BY usage_date, platform
) AS u
LEFT JOIN (
  SELECT usage_date, platform, SUM(cost_usd) AS cost_usd
  FROM `${project_id}.${dataset}.fct_cost_daily`
  GROUP BY usage_date, platform
) AS c
  ON c.usage_date = u.usage_date AND c.platform = u.platform;
