-- name: keys_are_unique
-- title: No key has two owners.
-- expect: no_rows
-- critical: yes
SELECT api_key_id, COUNT(*) AS owners
FROM `${project_id}.${dataset}.dim_api_key_user`
GROUP BY api_key_id
HAVING COUNT(*) > 1
ORDER BY api_key_id;
