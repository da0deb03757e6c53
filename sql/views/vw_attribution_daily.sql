-- The share of each day's usage whose owner is known.
CREATE OR REPLACE VIEW `${project_id}.${dataset}.vw_attribution_daily`
OPTIONS (
  description = 'Share of requests and tokens attributed to a user, per day',
  labels = [('audience', 'finance')]
)
AS
SELECT
  usage_date,
  SUM(requests) AS requests,
  SUM(IF(user_id IS NULL, 0, requests)) AS attributed_requests,
  SAFE_DIVIDE(SUM(IF(user_id IS NULL, 0, requests)), SUM(requests)) AS attribution_rate
FROM `${project_id}.${dataset}.fct_usage_daily`
GROUP BY usage_date;
