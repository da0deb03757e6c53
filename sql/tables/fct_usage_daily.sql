-- Usage per day, platform, model, key and user.
CREATE TABLE IF NOT EXISTS `${project_id}.${dataset}.fct_usage_daily`
(
  usage_date DATE NOT NULL OPTIONS (description = 'Day of the usage, UTC'),
  platform STRING NOT NULL OPTIONS (description = 'The provider or tool through which the model was called'),
  model STRING NOT NULL OPTIONS (description = 'Model name as in dim_model_price'),
  api_key_id STRING NOT NULL OPTIONS (description = 'The key that was used'),
  user_id STRING OPTIONS (description = 'Owner of the key on that day; NULL when nobody is known'),
  requests INT64 NOT NULL OPTIONS (description = 'Number of requests'),
  input_tokens INT64 NOT NULL OPTIONS (description = 'Sum of context tokens'),
  output_tokens INT64 NOT NULL OPTIONS (description = 'Sum of generated tokens'),
  mean_input_tokens FLOAT64 OPTIONS (description = 'Context tokens per request'),
  first_request_at TIMESTAMP OPTIONS (description = 'First request of the day'),
  last_request_at TIMESTAMP OPTIONS (description = 'Last request of the day')
)
PARTITION BY usage_date
CLUSTER BY platform, api_key_id
OPTIONS (
  description = 'Daily usage per platform, model, key and user',
  labels = [('layer', 'mart'), ('owner', 'finance-analytics')]
);
