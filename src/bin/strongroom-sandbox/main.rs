mod bigquery;

fn main() {}
