//! What a query API answers, read from JSON without building a tree of it. Pure.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use xxhash_rust::xxh3::xxh3_64;

use super::series::{Given, Sample, Value};

/// What stands around the data of an answer.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    pub(super) ok: bool,
    pub(super) error_type: String,
    pub(super) error: String,
    /// What the API says about the answer; Thanos and Mimir say here that it is not all.
    pub(super) warnings: Vec<String>,
    /// A cluster of `VictoriaMetrics` did not hear from all of its nodes.
    pub(super) partial: bool,
}

/// Reads an answer to a query; each of its series goes to `sink`.
///
/// # Errors
/// When it is not such an answer.
pub(super) fn series(body: &[u8], sink: &mut dyn FnMut(Given)) -> Result<Envelope, String> {
    let mut from = serde_json::Deserializer::from_slice(body);
    let read = Whole { sink }.deserialize(&mut from);
    let read = read.and_then(|envelope| from.end().map(|()| envelope));
    read.map_err(|error| error.to_string())
}

/// An answer with data of some other form.
#[derive(Deserialize)]
struct Simple<T> {
    status: String,
    data: Option<T>,
}

/// A list of texts, as the values of a label.
pub(super) fn texts(body: &[u8]) -> Result<Vec<String>, String> {
    simple::<Vec<String>>(body).map(Option::unwrap_or_default)
}

/// The data of an answer, where there is some.
pub(super) fn simple<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<Option<T>, String> {
    let read: Result<Simple<T>, _> = serde_json::from_slice(body);
    match read {
        Ok(read) if read.status == "success" => Ok(read.data),
        Ok(_) => Err("it does not say that it is one".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

struct Whole<'s> {
    sink: &'s mut dyn FnMut(Given),
}

impl<'de> DeserializeSeed<'de> for Whole<'_> {
    type Value = Envelope;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Envelope, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = Envelope;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an answer of Prometheus' API")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope, A::Error> {
        let mut envelope = Envelope::default();
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            match &*key {
                "status" => envelope.ok = map.next_value::<String>()? == "success",
                "errorType" => envelope.error_type = map.next_value()?,
                "error" => envelope.error = map.next_value()?,
                "warnings" => {
                    let warnings: Option<Vec<String>> = map.next_value()?;
                    envelope.warnings = warnings.unwrap_or_default();
                }
                "isPartial" => envelope.partial = map.next_value()?,
                "data" => map.next_value_seed(Data {
                    sink: &mut *self.sink,
                })?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(envelope)
    }
}

struct Data<'s> {
    sink: &'s mut dyn FnMut(Given),
}

impl<'de> DeserializeSeed<'de> for Data<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Data<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the result of a query")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            match &*key {
                "resultType" => {
                    let kind: String = map.next_value()?;
                    if kind != "matrix" && kind != "vector" {
                        let why = format!("a result of type {kind:?}");
                        return Err(serde::de::Error::custom(why));
                    }
                }
                "result" => map.next_value_seed(Rows {
                    sink: &mut *self.sink,
                })?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

struct Rows<'s> {
    sink: &'s mut dyn FnMut(Given),
}

impl<'de> DeserializeSeed<'de> for Rows<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of series")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        while let Some(row) = rows.next_element::<Row>()? {
            let values = row.values.into_iter().chain(row.value);
            let histograms = row.histograms.into_iter().chain(row.histogram);
            let mut samples: Vec<_> = values.map(|float| float.0).collect();
            samples.extend(histograms.map(|histogram| histogram.0));
            (self.sink)(Given {
                labels: row.metric.0,
                samples,
            });
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Row {
    metric: Labels,
    #[serde(default)]
    values: Vec<Float>,
    value: Option<Float>,
    #[serde(default)]
    histograms: Vec<Histogram>,
    histogram: Option<Histogram>,
}

struct Labels(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut pairs = Vec::with_capacity(8);
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Labels(pairs))
            }
        }
        from.deserialize_map(Pairs)
    }
}

/// A float as the API writes it: a text, for JSON has no infinities.
#[derive(Clone, Copy)]
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Cow::<'_, str>::deserialize(from)?;
        let parsed = text.parse();
        parsed
            .map(Self)
            .map_err(|_| serde::de::Error::custom(format!("not a number: {text:?}")))
    }
}

/// Seconds with decimals.
fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

struct Float(Sample);

impl<'de> Deserialize<'de> for Float {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (seconds, value): (f64, Number) = Deserialize::deserialize(from)?;
        Ok(Self(Sample {
            at: milliseconds(seconds),
            value: Value::Float(value.0),
        }))
    }
}

struct Histogram(Sample);

#[derive(Deserialize)]
struct HistogramBody {
    count: Number,
    sum: Number,
    #[serde(default)]
    buckets: Vec<(u8, Number, Number, Number)>,
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (seconds, body): (f64, HistogramBody) = Deserialize::deserialize(from)?;
        // One NaN is as good as another, and -0 is 0: both are written in one way only.
        let bits = |number: Number| match number.0 {
            nan if nan.is_nan() => f64::NAN.to_bits(),
            0.0 => 0,
            other => other.to_bits(),
        };
        let mut words = vec![bits(body.count), bits(body.sum)];
        for (bounds, lower, upper, count) in body.buckets {
            words.extend([u64::from(bounds), bits(lower), bits(upper), bits(count)]);
        }
        let bytes: Vec<_> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        Ok(Self(Sample {
            at: milliseconds(seconds),
            value: Value::Histogram(xxh3_64(&bytes)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<(Envelope, Vec<Given>), String> {
        let mut rows = Vec::new();
        let envelope = series(body.as_bytes(), &mut |row| rows.push(row))?;
        Ok((envelope, rows))
    }

    #[test]
    fn samples_keep_their_milliseconds_and_every_kind_of_value() {
        let body = r#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"__name__":"x","a":"q\"\\ ž"},"values":[[1795826299.539,"1e+06"],[1795826300,"+Inf"],[1795826301.001,"NaN"],[1,"-Inf"]]}
        ]},"warnings":["slow"],"infos":null,"isPartial":true,"stats":{"seriesFetched":"1"}}"#;
        let (envelope, rows) = read(body).unwrap();
        assert!(envelope.ok && envelope.partial);
        assert_eq!(envelope.warnings, ["slow"]);
        assert_eq!(rows[0].labels[1], ("a".to_owned(), "q\"\\ ž".to_owned()));
        let samples = &rows[0].samples;
        let times: Vec<_> = samples.iter().map(|sample| sample.at).collect();
        assert_eq!(
            times,
            [
                1_795_826_299_539,
                1_795_826_300_000,
                1_795_826_301_001,
                1000
            ]
        );
        assert!(matches!(samples[0].value, Value::Float(1e6)));
        assert!(matches!(samples[1].value, Value::Float(f64::INFINITY)));
        assert!(matches!(samples[2].value, Value::Float(nan) if nan.is_nan()));
    }

    #[test]
    fn a_histogram_is_its_count_sum_and_buckets() {
        let of = |count: &str| {
            let body = format!(
                r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{}},"histograms":[[1.5,{{"count":"3","sum":"0.4","buckets":[[1,"-1","-0.5","{count}"]]}}]]}}]}}}}"#
            );
            let (_, rows) = read(&body).unwrap();
            assert_eq!(rows[0].samples[0].at, 1500);
            match rows[0].samples[0].value {
                Value::Histogram(hash) => hash,
                Value::Float(_) => panic!("a histogram"),
            }
        };
        assert_eq!(of("3"), of("3.0"), "the same number written otherwise");
        assert_ne!(of("3"), of("4"));
    }

    #[test]
    fn a_refusal_and_a_vector_are_read_and_what_is_no_answer_is_refused() {
        let refusal = r#"{"status":"error","errorType":"execution","error":"too many samples"}"#;
        let (envelope, rows) = read(refusal).unwrap();
        assert!(!envelope.ok && rows.is_empty());
        assert_eq!(envelope.error, "too many samples");

        let vector = r#"{"data":{"result":[{"value":[2,"7"],"metric":{"job":"x"}}],"resultType":"vector"},"status":"success"}"#;
        let (_, rows) = read(vector).unwrap();
        assert!(matches!(rows[0].samples[0].value, Value::Float(7.0)));

        for bad in [
            "",
            "<html>sign in</html>",
            "{\"status\":\"success\"",
            "[]",
            "{\"status\":\"success\",\"data\":{\"resultType\":\"scalar\",\"result\":[1,\"2\"]}}",
            "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[{\"metric\":{},\"values\":[[1,\"one\"]]}]}}",
            "{\"status\":\"success\"} and more",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
