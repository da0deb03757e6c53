//! What a verb says on stdout and stderr.

use std::io::Write;

use serde::Serialize;
use serde_json::json;

use crate::app::Exit;
use crate::plan::Refusal;

/// The version of the JSON documents.
const VERSION: u32 = 1;

/// Text or JSON, decided once.
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a result: `text` for people, `value` for programs.
    pub fn result(&self, message_type: &str, value: &impl Serialize, text: &str) {
        let out = if self.json {
            json!({"message_type": message_type, "version": VERSION, "data": value}).to_string() + "\n"
        } else {
            text.to_string()
        };
        // Nobody reads any more: the verb's work is done all the same.
        std::io::stdout().write_all(out.as_bytes()).ok();
    }

    /// Prints an error.
    pub fn problem(&self, exit: Exit, message: &str, refusals: &[Refusal]) -> Exit {
        if self.json {
            let document = json!({
                "message_type": "error", "version": VERSION,
                "data": {"code": exit.name(), "exit_code": exit as u8, "message": message, "refusals": refusals},
            });
            std::io::stdout().write_all(format!("{document}\n").as_bytes()).ok();
        } else {
            std::io::stderr().write_all(format!("error: {message}\n").as_bytes()).ok();
        }
        exit
    }
}
