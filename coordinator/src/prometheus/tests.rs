use houston_common::policy::gate::{Comparison, FRESH};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

#[test]
fn an_answer_is_one_number_or_says_why_not() {
    let number = |text: &str| Ok(text.parse().expect(text));
    let vector = |samples: &str| {
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{samples}]}}}}"#)
    };
    let sample = |value: &str| format!(r#"{{"metric":{{"job":"web"}},"value":[1700000000.1,"{value}"]}}"#);
    assert_eq!(read(vector(&sample("0.997")).as_bytes()), number("0.997"));
    let scalar =
        r#"{"status":"success","data":{"resultType":"scalar","result":[1700000000,"42"]},"warnings":["w"]}"#;
    assert_eq!(read(scalar.as_bytes()), number("42"));
    let refused = [
        (vector(""), "no value now"),
        (vector(&format!("{},{}", sample("1"), sample("2"))), "has 2 values"),
        (vector(&sample("NaN")), "value is NaN"),
        (vector(&sample("+Inf")), "value is +Inf"),
        (
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"values":[[1,"2"]]}]}}"#.into(),
            "no number",
        ),
        (r#"{"status":"success"}"#.into(), "no number"),
        (
            r#"{"status":"error","errorType":"bad_data","error":"parse error\u001b[2J"}"#.into(),
            "parse error\\u{1b}",
        ),
        ("<html>".into(), "no answer of Prometheus"),
        (String::new(), "no answer of Prometheus"),
        (
            r#"{"status":"success","data":{"resultType":"vector","result":7}}"#.into(),
            "no answer of Prometheus",
        ),
    ];
    for (body, why) in refused {
        let error = read(body.as_bytes()).expect_err(&body);
        assert!(error.contains(why), "{body}: {error}");
    }
}

#[test]
fn urls_are_http_and_name_a_host() {
    let url = |text: &str| text.parse::<Url>();
    assert_eq!(url("http://127.0.0.1:9090").expect("read").to_string(), "http://127.0.0.1:9090");
    assert_eq!(
        url("http://metrics.example/prom/").expect("read").to_string(),
        "http://metrics.example:80/prom"
    );
    assert_eq!(url("http://[::1]:9090/").expect("read").authority, "[::1]:9090");
    for bad in ["https://a", "a", "http://", "http://u@a", "http://a?x=1", "ftp://a", "/", "http://a b"] {
        assert_eq!(url(bad).expect_err(bad).code, Code::ConfigValue, "{bad}");
    }
}

fn metric(query: &str) -> Metric {
    Metric {
        query: query.to_owned(),
        is: Comparison::AtLeast,
        value: "1".parse().expect("one"),
        fresh: FRESH,
    }
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Answers one connection with these bytes, and tells what it was asked.
async fn answering(bytes: String) -> (Url, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}/prom", listener.local_addr().expect("an address")).parse().expect("a url");
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("called");
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            assert_eq!(stream.read(&mut byte).await.expect("read"), 1);
            request.push(byte[0]);
        }
        let _ = stream.write_all(bytes.as_bytes()).await;
        String::from_utf8(request).expect("text")
    });
    (url, asked)
}

#[tokio::test]
async fn a_query_is_asked_whole_and_its_sample_must_be_fresh() {
    let body = r#"{"status":"success","data":{"resultType":"scalar","result":[1700000000,"1"]}}"#;
    let (url, asked) = answering(http("200 OK", body)).await;
    let query = r#"sum(rate(http_requests_total{env="prod"}[5m])) > 0 & "ä""#;
    assert_eq!(ask(Some(&url), &metric(query)).await, Ok("1".parse().expect("one")));
    let request = asked.await.expect("asked");
    let line = request.lines().next().expect("a line");
    assert_eq!(
        line,
        "GET /prom/api/v1/query?query=sum%28rate%28http_requests_total%7Benv%3D%22prod%22%7D%5B5m%5D%29%29%20%3E%200\
         %20%26%20%22%C3%A4%22&lookback_delta=60000ms&timeout=10s HTTP/1.1"
    );
}

#[tokio::test]
async fn whatever_is_no_answer_has_a_reason() {
    let body = r#"{"status":"error","error":"unknown function xy"}"#;
    let (url, _asked) = answering(http("400 Bad Request", body)).await;
    let error = ask(Some(&url), &metric("xy()")).await.expect_err("refused");
    assert!(error.contains("400") && error.contains("unknown function xy"), "{error}");
    let (url, _asked) = answering("SSH-2.0-OpenSSH\r\n".to_owned()).await;
    assert!(ask(Some(&url), &metric("1")).await.expect_err("no HTTP").contains("does not speak HTTP"));
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = closed.local_addr().expect("an address");
    drop(closed);
    let url = format!("http://{address}").parse().expect("a url");
    assert!(ask(Some(&url), &metric("1")).await.expect_err("closed").contains("cannot be connected to"));
    assert!(ask(None, &metric("1")).await.expect_err("nobody").contains("no Prometheus"));
}
