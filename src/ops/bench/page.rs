//! The report as one page: self-contained HTML, no script, nothing loaded from elsewhere.

use std::fmt::Write;

use super::Subject;
use super::plot::{FIGURES, draw, escaped};
use super::report::{COLUMNS, Report};
use crate::core::digits::grouped;

const STYLE: &str = "
:root{color-scheme:light dark;--text:#1f2328;--quiet:#59636e;--line:#d1d9e0;--back:#fff;--card:#f6f8fa;--mark:#dafbe1}
@media(prefers-color-scheme:dark){:root{--text:#f0f6fc;--quiet:#9198a1;--line:#3d444d;--back:#0d1117;--card:#151b23;--mark:#12261e}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--text);background:var(--back);max-width:1120px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.1rem;margin-top:2rem}p.quiet,li,caption{color:var(--quiet)}
.choice{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.8rem 1.2rem;margin:.8rem 0}
.choice b{font-size:1.2rem}.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:1rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
table{font-size:.9rem}th,td{padding:.3rem .45rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-weight:600;color:var(--quiet);font-size:.7rem}tr.chosen td{background:var(--mark)}code{font-size:.95em}
";

/// Makes the page.
pub fn render(report: &Report) -> String {
    let mut page = String::new();
    let title = escaped(&report.title());
    // Writing into a string cannot fail.
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>{title}</title><style>{STYLE}</style></head><body>\n\
         <h1>{title}</h1>\n<p class=\"quiet\">{}</p>\n",
        escaped(&circumstances(report))
    );
    choices(report, &mut page);
    page.push_str("<div class=\"plots\">\n");
    FIGURES.iter().for_each(|(_, figure)| page.push_str(&draw(report, figure)));
    page.push_str("</div>\n<h2>Each setting</h2>\n<div class=\"scroll\">\n");
    table(report, &mut page);
    page.push_str("</div>\n");
    phases(report, &mut page);
    page.push_str("<h2>How to read it</h2>\n<ul>\n");
    for note in &report.about.notes {
        let _ = writeln!(page, "<li>{}</li>", escaped(note));
    }
    page.push_str("</ul>\n</body></html>\n");
    page
}

/// Where and how it was measured, in a line.
pub fn circumstances(report: &Report) -> String {
    let about = &report.about;
    let machine = &about.machine;
    let processor = machine.processor.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let kafka = about.kafka.as_ref().map(|kafka| format!(", Kafka: {kafka}")).unwrap_or_default();
    let codec = if about.subject == Subject::Sink { String::new() } else { format!(", compression: {}", about.codec) };
    let busy = match machine.load_before {
        Some(load) if machine.is_busy() => format!(", busy (load {load:.1})"),
        _ => String::new(),
    };
    format!(
        "konekt {} on {} {}, {} processors{processor}{busy}{kafka}{codec}; {} rounds after {} to warm up, {:.2} s each run; {}",
        about.konekt,
        machine.system,
        machine.architecture,
        machine.processors,
        about.repeats,
        about.warm_up,
        about.run_seconds,
        about.at
    )
}

fn choices(report: &Report, page: &mut String) {
    for choice in &report.choices {
        let _ = writeln!(
            page,
            "<div class=\"choice\"><b>Choose {}</b>, for {}: {} records/s.<br>It is {}.</div>",
            escaped(&choice.settings(report.about.subject)),
            choice.work(report.about.subject),
            grouped(choice.records_per_second.round() as u64),
            escaped(&choice.reason)
        );
    }
}

fn table(report: &Report, page: &mut String) {
    page.push_str("<table>\n<tr>");
    for column in &COLUMNS {
        let _ = write!(page, "<th>{}</th>", column.heading);
    }
    page.push_str("</tr>\n");
    for cell in &report.cells {
        let chosen = report.choices.iter().any(|choice| choice.is(cell));
        page.push_str(if chosen { "<tr class=\"chosen\">" } else { "<tr>" });
        for column in &COLUMNS {
            let _ = write!(page, "<td>{}</td>", escaped(&(column.value)(cell).shown()));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table>\n");
}

fn phases(report: &Report, page: &mut String) {
    page.push_str(
        "<h2>How long the pieces took</h2>\n<div class=\"scroll\"><table>\n<tr><th>WHO</th><th>WORKERS</th><th>BATCH</th>\
         <th>PHASE</th><th>COUNT</th><th>P50 MS</th><th>P90 MS</th><th>P99 MS</th><th>MAX MS</th></tr>\n",
    );
    for cell in &report.cells {
        for (name, phase) in &cell.phases {
            let who = escaped(&(COLUMNS[0].value)(cell).shown());
            let times = [phase.p50_ms, phase.p90_ms, phase.p99_ms, phase.max_ms];
            let times: String = times.iter().map(|ms| format!("<td>{ms:.3}</td>")).collect();
            let _ = writeln!(
                page,
                "<tr><td>{who}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>{times}</tr>",
                cell.setting.workers,
                cell.setting.batch_size,
                escaped(name),
                phase.count
            );
        }
    }
    page.push_str("</table></div>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::bench::report::tests::example;

    #[test]
    fn the_page_is_whole_and_loads_nothing() {
        let page = render(&example());
        for part in
            ["Choose ", "max_workers 1", "batch_size 1000", "170,000", "<td>90,000</td>", "a note", "linux x86_64"]
        {
            assert!(page.contains(part), "{part} is missing in\n{page}");
        }
        assert_eq!((page.matches("<svg").count(), page.matches("class=\"chosen\"").count()), (2, 1));
        for outside in ["<script", "src=", "href=", "url(", "@import"] {
            assert!(!page.contains(outside), "{outside} in\n{page}");
        }
    }
}
