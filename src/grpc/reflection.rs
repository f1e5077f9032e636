//! Answers what is served, from the descriptors of the files under `proto/`.
//!
//! Source: gRPC, "GRPC Server Reflection Protocol"; protobuf, `descriptor.proto`.

use crate::protobuf::{Fields, Malformed, Value, put_bytes_field, put_varint_field};

use super::status::Code;

/// `google.protobuf.FileDescriptorSet` of every file under `proto/`. `make proto` makes it, and a test compares.
static DESCRIPTORS: &[u8] = include_bytes!("../../proto/descriptors.binpb");

/// The fields of a descriptor that are read. Of a file, of a message and of a service the names are field 1.
const NAME: u32 = 1;
const FILE_PACKAGE: u32 = 2;
const FILE_DEPENDENCY: u32 = 3;
/// Messages, enums and services of a file.
const FILE_SYMBOLS: [u32; 3] = [4, 5, FILE_SERVICE];
const FILE_SERVICE: u32 = 6;
/// Nested messages and enums, and fields, of a message.
const MESSAGE_SYMBOLS: [u32; 3] = [2, 3, 4];

/// Appends the response to a `ServerReflectionRequest`.
///
/// # Errors
/// The bytes are no message.
pub fn put_response(request: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut asked = None;
    for field in Fields::new(request) {
        match field? {
            (1, Value::Bytes(host)) => put_bytes_field(1, host, out),
            (number @ 3..=7, Value::Bytes(value)) => asked = Some((number, value)),
            _ => {}
        }
    }
    put_bytes_field(2, request, out);
    let text = |value| std::str::from_utf8(value).map_err(|_| Malformed);
    match asked {
        Some((3, name)) => put_file(file_of_name(text(name)?), out),
        Some((4, symbol)) => put_file(file_of_symbol(text(symbol)?), out),
        Some((7, _)) => {
            let mut list = Vec::new();
            for name in services() {
                let mut service = Vec::new();
                put_bytes_field(1, name.as_bytes(), &mut service);
                put_bytes_field(1, &service, &mut list);
            }
            put_bytes_field(6, &list, out);
        }
        // Nothing here has extensions.
        _ => put_error("nothing of that kind is here", out),
    }
    Ok(())
}

/// Full names of all services.
pub fn services() -> impl Iterator<Item = String> {
    files().flat_map(|file| {
        let package = text_of(file, FILE_PACKAGE).unwrap_or_default();
        members(file, FILE_SERVICE).map(move |service| {
            let name = text_of(service, NAME).unwrap_or_default();
            format!("{package}.{name}")
        })
    })
}

fn put_file(file: Option<&[u8]>, out: &mut Vec<u8>) {
    let Some(file) = file else {
        return put_error("no such file or symbol is here", out);
    };
    // With what it imports, so that a client need not ask again.
    let mut all = vec![file];
    let mut next = 0;
    while next < all.len() {
        for name in members(all[next], FILE_DEPENDENCY) {
            let imported = std::str::from_utf8(name).ok().and_then(file_of_name);
            if let Some(imported) = imported
                && !all.contains(&imported)
            {
                all.push(imported);
            }
        }
        next += 1;
    }
    let mut response = Vec::new();
    for file in all {
        put_bytes_field(1, file, &mut response);
    }
    put_bytes_field(4, &response, out);
}

fn put_error(message: &str, out: &mut Vec<u8>) {
    let mut error = Vec::new();
    put_varint_field(1, u64::from(Code::NotFound.number()), &mut error);
    put_bytes_field(2, message.as_bytes(), &mut error);
    put_bytes_field(7, &error, out);
}

fn files() -> impl Iterator<Item = &'static [u8]> {
    members(DESCRIPTORS, 1)
}

fn file_of_name(name: &str) -> Option<&'static [u8]> {
    files().find(|file| text_of(file, NAME) == Some(name))
}

fn file_of_symbol(symbol: &str) -> Option<&'static [u8]> {
    files().find(|file| {
        let package = text_of(file, FILE_PACKAGE).unwrap_or_default();
        let within = symbol
            .strip_prefix(package)
            .and_then(|rest| rest.strip_prefix('.'));
        within.is_some_and(|within| holds(file, &FILE_SYMBOLS, within))
    })
}

/// Whether one of the descriptors in these fields has the name `path`, or one in it the rest of `path`.
fn holds(descriptor: &[u8], fields: &[u32], path: &str) -> bool {
    let (name, rest) = match path.split_once('.') {
        None => (path, None),
        Some((name, rest)) => (name, Some(rest)),
    };
    fields.iter().any(|field| {
        members(descriptor, *field).any(|member| {
            text_of(member, NAME) == Some(name)
                // A service has its methods where a message has its fields.
                && rest.is_none_or(|rest| holds(member, &MESSAGE_SYMBOLS, rest))
        })
    })
}

/// The values of a field that holds bytes, of a message that is well-formed.
fn members(message: &[u8], wanted: u32) -> impl Iterator<Item = &[u8]> {
    Fields::new(message).filter_map(move |field| match field {
        Ok((number, Value::Bytes(bytes))) if number == wanted => Some(bytes),
        _ => None,
    })
}

fn text_of(message: &[u8], wanted: u32) -> Option<&str> {
    std::str::from_utf8(members(message, wanted).next()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(field: u32, value: &str) -> Vec<u8> {
        let (mut request, mut response) = (Vec::new(), Vec::new());
        put_bytes_field(field, value.as_bytes(), &mut request);
        put_response(&request, &mut response).unwrap();
        let original = members(&response, 2).next();
        assert_eq!(original, Some(&request[..]), "the request is told back");
        response
    }

    fn names_of_files(response: &[u8]) -> Vec<&str> {
        let files = members(response, 4).next().expect("files");
        members(files, 1)
            .map(|file| text_of(file, NAME).unwrap())
            .collect()
    }

    #[test]
    fn lists_every_service() {
        let response = ask(7, "");
        let list = members(&response, 6).next().unwrap();
        let names: Vec<_> = members(list, 1)
            .map(|service| text_of(service, 1).unwrap())
            .collect();
        for name in [
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
            "logs.LogService",
            "logservice.LogService",
            "opentelemetry.proto.collector.logs.v1.LogsService",
            "ringhouse.v1.Ingest",
        ] {
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
    }

    #[test]
    fn a_file_comes_with_what_it_imports() {
        let by_symbol = ask(4, "opentelemetry.proto.collector.logs.v1.LogsService");
        let expected = [
            "opentelemetry/proto/collector/logs/v1/logs_service.proto",
            "opentelemetry/proto/logs/v1/logs.proto",
            "opentelemetry/proto/common/v1/common.proto",
            "opentelemetry/proto/resource/v1/resource.proto",
        ];
        assert_eq!(names_of_files(&by_symbol), expected);
        assert_eq!(names_of_files(&ask(3, expected[1])), expected[1..]);
    }

    #[test]
    fn finds_symbols_of_every_kind_and_no_others() {
        for symbol in [
            "ringhouse.v1.Ingest",
            "ringhouse.v1.Ingest.Stream",
            "ringhouse.v1.StreamRequest",
            "ringhouse.v1.StreamRequest.sequence",
        ] {
            assert_eq!(
                names_of_files(&ask(4, symbol)),
                ["ringhouse/v1/ingest.proto"],
                "{symbol}"
            );
        }
        let nested = ask(4, "grpc.health.v1.HealthCheckResponse.ServingStatus");
        assert_eq!(names_of_files(&nested), ["grpc/health/v1/health.proto"]);
        for (field, other) in [
            (4, "ringhouse.v1.Ingest.Other"),
            (4, "ringhouse.v1"),
            (4, "ringhouse.v1.StreamRequest.sequence.x"),
            (4, ""),
            (3, "other.proto"),
            (6, "ringhouse.v1.StreamRequest"),
        ] {
            let response = ask(field, other);
            let error = members(&response, 7).next().expect("an error");
            assert!(
                Fields::new(error).any(|field| field == Ok((1, Value::Varint(5)))),
                "{other}"
            );
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert_eq!(put_response(b"\x0a\x05x", &mut Vec::new()), Err(Malformed));
        assert_eq!(put_response(b"\x1a\x01\xff", &mut Vec::new()), Err(Malformed));
    }
}
