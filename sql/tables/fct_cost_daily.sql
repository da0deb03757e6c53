-- What the usage of fct_usage_daily costs.
CREATE TABLE IF NOT EXISTS `${project_id}.${dataset}.fct_cost_daily`
(
  usage_date DATE NOT NULL OPTIONS (description = 'Day of the usage, UTC'),
  platform STRING NOT NULL OPTIONS (description = 'The provider or tool that sends the bill'),
  model STRING NOT NULL OPTIONS (description = 'Model name as in dim_model_price'),
  api_key_id STRING NOT NULL OPTIONS (description = 'The key that was used'),
  user_id STRING OPTIONS (description = 'Owner of the key on that day; NULL when nobody is known'),
  input_cost_usd NUMERIC NOT NULL OPTIONS (description = 'Context tokens times their price, USD'),
  output_cost_usd NUMERIC NOT NULL OPTIONS (description = 'Generated tokens times their price, USD'),
  cost_usd NUMERIC NOT NULL OPTIONS (description = 'Sum of both, USD'),
  price_list STRING OPTIONS (description = 'Version of the price list that was applied')
)
PARTITION BY usage_date
CLUSTER BY platform, model
OPTIONS (
  description = 'Daily cost per platform, model, key and user, in USD',
  labels = [('layer', 'mart'), ('owner', 'finance-analytics')]
);
