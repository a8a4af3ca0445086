//! A table on stdout, and the same as JSON in target/bench.json.

use std::time::Duration;

#[derive(Default)]
pub struct Report {
    section: String,
    rows: Vec<serde_json::Value>,
}

impl Report {
    pub fn section(&mut self, name: &str) {
        println!("\n{name}");
        self.section = name.to_owned();
    }

    pub fn row(&mut self, what: &str, unit: &str, value: f64, beside: &str) {
        println!("  {what:<48} {value:>12.2} {unit:<32} {beside}");
        self.rows.push(serde_json::json!({
            "section": self.section, "what": what, "unit": unit, "value": value, "beside": beside,
        }));
    }

    pub fn note(&mut self, text: &str) {
        println!("  ({text})");
    }

    pub fn finish(self) {
        let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/bench.json");
        std::fs::write(path, serde_json::to_vec_pretty(&self.rows).unwrap()).unwrap();
        println!("\nas JSON: {path}");
    }
}

pub fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

pub fn median(values: &mut [f64]) -> f64 {
    percentile(values, 50.0)
}

pub fn percentile(values: &mut [f64], percent: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = ((values.len() - 1) as f64 * percent / 100.0).round() as usize;
    values[at]
}
