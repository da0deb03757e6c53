-- Who owns which key: the table that the mappings sheet feeds.
CREATE TABLE IF NOT EXISTS `${project_id}.${dataset}.dim_api_key_user`
(
  api_key_id STRING NOT NULL OPTIONS (description = 'Identifier of the key; never the key itself'),
  platform STRING NOT NULL OPTIONS (description = 'Where the key is valid'),
  user_id STRING NOT NULL OPTIONS (description = 'Identifier of the owner'),
  user_email STRING OPTIONS (description = 'Mail address of the owner'),
  team STRING OPTIONS (description = 'Team that pays'),
  cost_center STRING OPTIONS (description = 'Cost centre; text, leading zeros matter'),
  valid_from DATE NOT NULL OPTIONS (description = 'First day of the ownership'),
  valid_to DATE OPTIONS (description = 'Last day of the ownership; NULL while it lasts'),
  is_active BOOL NOT NULL OPTIONS (description = 'Whether the key may be used today'),
  PRIMARY KEY (api_key_id) NOT ENFORCED
)
CLUSTER BY team
OPTIONS (
  description = 'Mapping of API keys to their owners',
  labels = [('layer', 'dimension'), ('owner', 'finance-analytics'), ('source', 'google-sheets')]
);
