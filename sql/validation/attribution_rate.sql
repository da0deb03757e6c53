-- name: attribution_rate
-- title: The share of usage that is attributed to a person is within 2 % of what it was.
-- expect: recorded
-- tolerance: 0.02
-- checklist: attribution
-- critical: yes
SELECT
  SAFE_DIVIDE(SUM(IF(user_id IS NULL, 0, requests)), SUM(requests)) AS share_of_requests,
  SAFE_DIVIDE(SUM(IF(user_id IS NULL, 0, input_tokens + output_tokens)), SUM(input_tokens + output_tokens)) AS share_of_tokens
FROM `${project_id}.${dataset}.fct_usage_daily`
ORDER BY share_of_requests;
