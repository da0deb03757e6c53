//! Charts as inline SVG: shapes only. Every figure also stands as text beside its shape, so that nothing is told by
//! colour or size alone, and letters do not shrink with the drawing.

use super::escape;

/// Part of a bar's length, from 0 to 1.
pub struct Span {
    pub from: f64,
    pub to: f64,
    pub class: &'static str,
}

/// A horizontal bar; `label` is what a reader who cannot see it is told.
pub fn bar(label: &str, spans: &[Span]) -> String {
    let mut shapes = String::new();
    for span in spans {
        let (from, to) = (span.from.clamp(0.0, 1.0), span.to.clamp(0.0, 1.0));
        // What took no time to speak of is still there.
        let width = ((to - from) * 1000.0).max(4.0).min(1000.0 - from * 996.0);
        shapes.push_str(&format!(
            r#"<rect x="{:.1}" y="0" width="{width:.1}" height="16" class="{}"/>"#,
            from * 996.0,
            span.class
        ));
    }
    format!(
        r#"<svg class="bar" viewBox="0 0 1000 16" preserveAspectRatio="none" role="img" aria-label="{}">{shapes}</svg>"#,
        escape(label)
    )
}

/// A column of a trend.
pub struct Column {
    pub value: f64,
    pub class: &'static str,
    /// What the column is, for readers and pointers.
    pub label: String,
}

/// Columns side by side, from the oldest to the newest.
pub fn columns(label: &str, columns: &[Column]) -> String {
    const HEIGHT: f64 = 120.0;
    let highest = columns.iter().map(|column| column.value).fold(0.0, f64::max);
    let step = 1000.0 / columns.len().max(8) as f64;
    let mut shapes = String::new();
    for (i, column) in columns.iter().enumerate() {
        let height = if highest > 0.0 { (column.value / highest * HEIGHT).max(2.0) } else { 2.0 };
        shapes.push_str(&format!(
            r#"<rect x="{:.1}" y="{:.1}" width="{:.1}" height="{height:.1}" class="{}"><title>{}</title></rect>"#,
            i as f64 * step + step * 0.1,
            HEIGHT - height,
            step * 0.8,
            column.class,
            escape(&column.label)
        ));
    }
    format!(
        r#"<svg class="trend" viewBox="0 0 1000 {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{}"><line x1="0" y1="{HEIGHT}" x2="1000" y2="{HEIGHT}" class="axis"/>{shapes}</svg>"#,
        escape(label)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_stays_within_its_frame() {
        for (from, to) in [(0.0, 0.0), (0.0, 7.0), (1.0, 1.0), (0.5, 0.6)] {
            let text = bar("x", &[Span { from, to, class: "c" }]);
            let number = |name: &str| -> f64 {
                let rest = text.split("<rect").nth(1).unwrap().split(&format!("{name}=\"")).nth(1).unwrap();
                rest.split('"').next().unwrap().parse().unwrap()
            };
            assert!(number("width") >= 4.0 && number("x") + number("width") <= 1000.0, "{from} {to}: {text}");
        }
    }
}
