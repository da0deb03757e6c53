-- One line per month for the finance report. It reads two other views: they must exist first.
CREATE OR REPLACE VIEW `${project_id}.${dataset}.vw_finance_summary`
OPTIONS (
  description = 'Cost, attributed cost and tokens per month',
  labels = [('audience', 'finance')]
)
AS
SELECT
  m.month,
  m.cost_usd,
  m.attributed_cost_usd,
  ROUND(SAFE_DIVIDE(m.attributed_cost_usd, m.cost_usd), 4) AS attribution_rate,
  d.requests,
  d.tokens
FROM (
  SELECT
    month,
    SUM(cost_usd) AS cost_usd,
    SUM(IF(user_id = 'unattributed', 0, cost_usd)) AS attributed_cost_usd
  FROM `${project_id}.${dataset}.vw_monthly_cost`
  GROUP BY month
) AS m
JOIN (
  SELECT
    DATE_TRUNC(usage_date, MONTH) AS month,
    SUM(requests) AS requests,
    SUM(tokens) AS tokens
  FROM `${project_id}.${dataset}.vw_daily_totals`
  GROUP BY month
) AS d
  ON d.month = m.month;
