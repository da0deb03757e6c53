-- Cost per month, platform, team and user: what a cost centre is charged.
CREATE OR REPLACE VIEW `${project_id}.${dataset}.vw_monthly_cost`
OPTIONS (
  description = 'Cost per month, platform, team and user, in USD',
  labels = [('audience', 'finance')]
)
AS
SELECT
  DATE_TRUNC(c.usage_date, MONTH) AS month,
  c.platform,
  COALESCE(k.team, 'unattributed') AS team,
  COALESCE(k.cost_center, 'none') AS cost_center,
  COALESCE(c.user_id, 'unattributed') AS user_id,
  SUM(c.cost_usd) AS cost_usd
FROM `${project_id}.${dataset}.fct_cost_daily` AS c
LEFT JOIN `${project_id}.${dataset}.dim_api_key_user` AS k
  ON k.api_key_id = c.api_key_id
GROUP BY 1, 2, 3, 4, 5;
