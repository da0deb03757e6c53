//! What is left over.

use super::{Def, def, lenient};
use crate::bigquery::sql::value::Value;

pub const DEFS: &[Def] = &[
    Def {
        volatile: true,
        ..def("GENERATE_UUID", "->STRING", |_, _| {
            let mut b = rand::random::<[u8; 16]>();
            b[6] = (b[6] & 0x0f) | 0x40;
            b[8] = (b[8] & 0x3f) | 0x80;
            let hex: String = b.iter().map(|b| format!("{b:02x}")).collect();
            Ok(Value::Str(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])))
        })
    },
    Def {
        volatile: true,
        ..lenient("ERROR", "STRING->INT64", |_, a| match &a[0] {
            Value::Str(message) => Err(message.clone()),
            _ => Err("ERROR".into()),
        })
    },
];
