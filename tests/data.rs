//! `konekt data` as a person runs it: the same seed gives the same bytes, and what one command writes the next one reads.

mod support;

use std::fs;

use serde_json::Value;

use support::konekt::{Finished, Place};

fn data(place: &Place, line: &str, code: i32) -> Finished {
    let arguments: Vec<&str> = ["data"].into_iter().chain(line.split(' ')).collect();
    place.konekt(&arguments).run().expect_code(code)
}

#[test]
fn the_same_seed_gives_the_same_bytes_however_they_are_written() {
    let place = Place::new();
    for kind in ["orders", "users", "wiki"] {
        let plain = data(&place, &format!("generate {kind} --records 300 --seed 9"), 0).stdout;
        assert_eq!(plain.lines().count(), 300);
        assert_eq!(data(&place, &format!("generate {kind} --records 300 --seed 9"), 0).stdout, plain);
        for name in ["a.jsonl", "a.jsonl.gz", "a.ndjson.zst"] {
            data(&place, &format!("generate {kind} --records 300 --seed 9 --output {name}"), 0);
            let sampled = data(&place, &format!("sample --records 1000 {name}"), 0).stdout;
            assert!(sampled == plain, "{kind} in {name}: a sample of everything is everything, in its order");
        }
    }
}

#[test]
fn a_data_set_is_inspected_sampled_split_and_put_together_again() {
    let place = Place::new();
    data(&place, "generate users --records 5000 --output users.jsonl.zst", 0);
    let report: Value = serde_json::from_str(&data(&place, "inspect --json users.jsonl.zst", 0).stdout).expect("JSON");
    assert_eq!(report["documents"], 5000);
    let fields = report["fields"].as_array().expect("fields");
    let field = |pointer: &str| fields.iter().find(|field| field["pointer"] == pointer).expect(pointer);
    assert_eq!(field("/id")["types"], serde_json::json!([["integer", 5000]]));
    assert!(field("/born")["nulls"].as_u64().is_some_and(|nulls| (300..800).contains(&nulls)));
    assert!(field("/telephone")["values"].as_u64().is_some_and(|values| values < 5000), "some have none");
    assert_eq!(field("/address/city")["distinct_is_exact"], true);
    let page = data(&place, "inspect users.jsonl.zst", 0).stdout;
    assert!(page.contains("/address/city") && page.contains("DISTINCT"), "{page}");

    let sample = data(&place, "sample --records 50 --seed 3 users.jsonl.zst", 0).stdout;
    assert_eq!(sample.lines().count(), 50);
    assert_ne!(sample, data(&place, "sample --records 50 --seed 4 users.jsonl.zst", 0).stdout);

    fs::create_dir(place.file("parts")).expect("the folder is ours");
    let parts = data(&place, "split --parts parts/users-*.jsonl.gz --part-records 1500 users.jsonl.zst", 0).stdout;
    assert_eq!(parts.lines().count(), 4, "{parts}");
    let whole = data(&place, "sample --records 10000 users.jsonl.zst", 0).stdout;
    assert!(data(&place, "sample --records 10000 parts", 0).stdout == whole, "the parts are the whole, in its order");
    data(&place, "split --parts parts users.jsonl.zst", 2).expect_stderr("one * must stand");
}

#[test]
fn bad_documents_are_named_by_file_and_line() {
    let place = Place::new();
    fs::write(place.file("a.jsonl"), "{\"id\":1}\n{\"id\":\n\n[2]\n{\"name\":\"x\"}\n").expect("the folder is ours");
    let found = data(&place, "validate --key /id a.jsonl", 1).expect_stderr("4 documents, 3 bad").stdout;
    let lines: Vec<&str> = found.lines().collect();
    assert!(lines[0].starts_with("a.jsonl:2: it is not JSON"), "{found}");
    assert_eq!(lines[1..], ["a.jsonl:4: it is not an object", "a.jsonl:5: it has no /id"]);
    let json = data(&place, "validate --json a.jsonl", 1).stdout;
    let first: Value = serde_json::from_str(json.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&first["file"], &first["number"]), (&Value::from("a.jsonl"), &Value::from(2)));
    fs::write(place.file("b.json"), "[{\"id\":1},\n {\"id\":2}]\n").expect("the folder is ours");
    data(&place, "validate b.json", 0).expect_stderr("2 documents, 0 bad");
    fs::write(place.file("c.json"), "[{\"id\":1},").expect("the folder is ours");
    data(&place, "validate c.json", 1).expect_stderr("the array is not closed");
    data(&place, "validate missing.jsonl", 2).expect_stderr("missing.jsonl");
    data(&place, "validate a.txt", 2).expect_stderr("a.txt");
}

#[test]
fn a_sample_names_bad_documents_and_leaves_them_out() {
    let place = Place::new();
    fs::write(place.file("a.jsonl"), "{\"id\":1}\nbad\n{\"id\":2}\n[3]\n").expect("the folder is ours");
    let drawn = data(&place, "sample --records 4 a.jsonl", 0).expect_stderr("a.jsonl:2: it is not JSON");
    assert_eq!(drawn.stdout, "{\"id\":1}\n{\"id\":2}\n");
    drawn.expect_stderr("a.jsonl:4: it is not an object").expect_stderr("2 documents drawn, 2 bad ones left out");
}

/// Far more data than memory: 400 MB here, against a limit of a sixth.
#[test]
fn memory_does_not_grow_with_the_data() {
    const LIMIT_KIB: u64 = 64 * 1024;
    let place = Place::new();
    let line = "generate orders --records 2000000 --output orders.jsonl.zst";
    data(&place, line, 0).expect_memory_of(LIMIT_KIB);
    data(&place, "inspect orders.jsonl.zst", 0).expect_memory_of(LIMIT_KIB);
    data(&place, "validate orders.jsonl.zst", 0).expect_memory_of(LIMIT_KIB);
}
