-- name: cost_adds_up
-- title: In every line of cost, input and output add up to the total.
-- expect: no_rows
-- checklist: costs
-- critical: yes
SELECT usage_date, platform, model, api_key_id, input_cost_usd, output_cost_usd, cost_usd
FROM `${project_id}.${dataset}.fct_cost_daily`
WHERE input_cost_usd + output_cost_usd <> cost_usd
ORDER BY usage_date, platform, model, api_key_id;
