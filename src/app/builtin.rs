//! The validation queries that come with the program, for the ai_usage_analytics dataset.

macro_rules! queries {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../sql/validation/", $name)))),*]
    };
}

/// File names and texts.
pub(super) const VALIDATION: &[(&str, &str)] = queries![
    "attributed_users_are_mapped.sql",
    "attribution_rate.sql",
    "cost_adds_up.sql",
    "cost_exists.sql",
    "cost_per_month.sql",
    "cost_per_platform.sql",
    "date_range.sql",
    "dates_without_gaps.sql",
    "freshness.sql",
    "keys_are_unique.sql",
    "keys_without_owner.sql",
    "models_have_prices.sql",
    "rows_dim_api_key_user.sql",
    "rows_dim_model_price.sql",
    "rows_fct_cost_daily.sql",
    "rows_fct_usage_daily.sql",
    "rows_stg_llm_requests.sql",
    "tokens_per_month.sql",
    "usage_matches_raw_trace.sql",
];

/// What a drill of a stolen key searches the usage with.
pub(super) const ANOMALIES: (&str, &str) = ("usage_anomalies.sql", include_str!("../../sql/drill/usage_anomalies.sql"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_of_the_folder_is_built_in_and_has_a_header() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/validation");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|file| file.ends_with(".sql"))
            .collect();
        files.sort();
        assert_eq!(files, VALIDATION.iter().map(|(name, _)| (*name).to_string()).collect::<Vec<_>>());
        for (name, text) in VALIDATION {
            crate::plan::queries::parse(name, text).unwrap();
        }
    }
}
