-- name: usage_anomalies
-- title: No key was used far more in the last seven days than it usually is.
-- expect: no_rows
-- critical: no
SELECT usage_date, api_key_id, tokens, ROUND(usual) AS usual_tokens
FROM (
  SELECT
    usage_date,
    api_key_id,
    tokens,
    AVG(tokens) OVER (PARTITION BY api_key_id ORDER BY usage_date ROWS BETWEEN 28 PRECEDING AND 1 PRECEDING) AS usual,
    COUNT(*) OVER (PARTITION BY api_key_id ORDER BY usage_date ROWS BETWEEN 28 PRECEDING AND 1 PRECEDING) AS days,
    MAX(usage_date) OVER () AS last_date
  FROM (
    SELECT usage_date, api_key_id, SUM(input_tokens + output_tokens) AS tokens
    FROM `${project_id}.${dataset}.fct_usage_daily`
    GROUP BY usage_date, api_key_id
  ) AS per_day
) AS compared
WHERE days >= 7 AND tokens > 5 * usual AND usage_date > DATE_SUB(last_date, INTERVAL 7 DAY)
ORDER BY usage_date, api_key_id;
