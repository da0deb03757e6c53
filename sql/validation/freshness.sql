-- name: freshness
-- title: The newest request is as recent as when the backup was taken.
-- expect: recorded
-- checklist: freshness
-- critical: no
SELECT MAX(requested_at) AS newest_request
FROM `${project_id}.${dataset}.stg_llm_requests`
ORDER BY newest_request;
