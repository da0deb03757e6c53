-- name: usage_matches_raw_trace
-- title: The daily usage adds up to the raw trace, day by day.
-- expect: no_rows
-- checklist: reports
-- critical: yes
SELECT COALESCE(u.usage_date, r.usage_date) AS usage_date, u.tokens AS tokens_in_usage, r.tokens AS tokens_in_trace
FROM (
  SELECT usage_date, SUM(requests) AS requests, SUM(input_tokens + output_tokens) AS tokens
  FROM `${project_id}.${dataset}.fct_usage_daily`
  GROUP BY usage_date
) AS u
FULL OUTER JOIN (
  SELECT DATE(requested_at) AS usage_date, COUNT(*) AS requests, SUM(input_tokens + output_tokens) AS tokens
  FROM `${project_id}.${dataset}.stg_llm_requests`
  GROUP BY usage_date
) AS r
  ON r.usage_date = u.usage_date
WHERE u.tokens IS NULL OR r.tokens IS NULL OR u.tokens <> r.tokens OR u.requests <> r.requests
ORDER BY usage_date;
