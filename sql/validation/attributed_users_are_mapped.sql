-- name: attributed_users_are_mapped
-- title: Whoever is charged is the owner of the key in the mapping.
-- expect: no_rows
-- checklist: allocation
-- critical: yes
SELECT DISTINCT c.api_key_id, c.user_id, k.user_id AS mapped_user_id
FROM `${project_id}.${dataset}.fct_cost_daily` AS c
LEFT JOIN `${project_id}.${dataset}.dim_api_key_user` AS k
  ON k.api_key_id = c.api_key_id
WHERE c.user_id IS NOT NULL AND (k.user_id IS NULL OR k.user_id <> c.user_id)
ORDER BY api_key_id, user_id;
