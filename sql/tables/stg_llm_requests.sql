-- Every request as it was recorded, before any summing up.
CREATE TABLE IF NOT EXISTS `${project_id}.${dataset}.stg_llm_requests`
(
  request_id STRING NOT NULL OPTIONS (description = 'Identifier of the request, unique'),
  requested_at TIMESTAMP NOT NULL OPTIONS (description = 'When the request arrived, UTC'),
  trace STRING NOT NULL OPTIONS (description = 'The trace that the request comes from: code or conv'),
  trace_timestamp DATETIME OPTIONS (description = 'Wall clock of the source, which names no time zone'),
  platform STRING NOT NULL OPTIONS (description = 'The provider or tool through which the model was called'),
  model STRING NOT NULL OPTIONS (description = 'Model name as in dim_model_price'),
  api_key_id STRING NOT NULL OPTIONS (description = 'The key that paid for the request; never the key itself'),
  input_tokens INT64 NOT NULL OPTIONS (description = 'Tokens of the context, in tokens'),
  output_tokens INT64 NOT NULL OPTIONS (description = 'Tokens generated, in tokens'),
  is_streaming BOOL OPTIONS (description = 'Whether the answer was streamed'),
  tags ARRAY<STRING> OPTIONS (description = 'Free labels set by the caller'),
  client STRUCT<name STRING, version STRING, region STRING> OPTIONS (description = 'The calling software'),
  phases ARRAY<STRUCT<phase STRING, tokens INT64>> OPTIONS (description = 'Tokens by phase of the inference')
)
PARTITION BY DATE(requested_at)
CLUSTER BY platform, model
OPTIONS (
  description = 'Raw trace of model requests',
  labels = [('layer', 'staging'), ('owner', 'data-platform')]
);
