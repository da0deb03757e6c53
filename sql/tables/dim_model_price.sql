-- The price list.
CREATE TABLE IF NOT EXISTS `${project_id}.${dataset}.dim_model_price`
(
  model STRING NOT NULL OPTIONS (description = 'Model name'),
  provider STRING OPTIONS (description = 'Who sells it'),
  mode STRING OPTIONS (description = 'chat, responses, embedding ...'),
  input_usd_per_token NUMERIC OPTIONS (description = 'Price of a context token, USD; NULL when the list names none'),
  output_usd_per_token NUMERIC OPTIONS (description = 'Price of a generated token, USD; NULL when the list names none'),
  max_input_tokens INT64 OPTIONS (description = 'Size of the context window, in tokens'),
  price_list STRING NOT NULL OPTIONS (description = 'Version of the price list')
)
OPTIONS (
  description = 'List prices of models per token',
  labels = [('layer', 'dimension'), ('owner', 'finance-analytics')]
);
