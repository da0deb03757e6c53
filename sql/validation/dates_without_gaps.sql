-- name: dates_without_gaps
-- title: No day is missing between the first and the last day of usage.
-- expect: no_rows
-- checklist: dates
-- critical: yes
SELECT usage_date AS last_day_present, next_date AS next_day_present
FROM (
  SELECT usage_date, LEAD(usage_date) OVER (ORDER BY usage_date) AS next_date
  FROM (SELECT DISTINCT usage_date FROM `${project_id}.${dataset}.fct_usage_daily`) AS days
) AS pairs
WHERE DATE_DIFF(next_date, usage_date, DAY) > 1
ORDER BY last_day_present;
