//! What is answered to which request.
//!
//! | method, path | reply |
//! | --- | --- |
//! | POST `/upload/:id[?picture=input\|result][&lease=n]` | 200; 400 without a picture; 409 a late result; 413; 507 |
//! | GET `/download/:id[?picture=input\|result]` | 200 `image/png`; 404 |
//! | GET `/healthz` | 200 |
//!
//! Without `picture`, the first upload is the input and later ones are results; a download is the result once there
//! is one. An id that is no number is 400.

use std::io::{self, Read};

use hermitage_http::{Body, Method, Payload, Reply, Request};
use hermitage_micro::form::{self, NoPicture};
use hermitage_micro::task;

use crate::pictures::{Claim, Kind, Pictures, Placement};

/// How much of an upload is taken at a time.
const STEP: usize = 16 * 1024;

/// Answers a request.
pub(crate) fn answer(pictures: &dyn Pictures, request: &Request, body: &mut Body<'_>) -> Reply {
    let path = request.path.strip_suffix('/').unwrap_or(&request.path);
    let segments: Vec<_> = path.split('/').skip(1).collect();
    match (segments.as_slice(), request.method) {
        (["upload", id], Method::Post) => match (task::parse_id(id), claim(request)) {
            (Some(id), Some(claim)) => upload(pictures, id, claim, request, body),
            (None, _) => Reply::text(400, "Task id is not a number"),
            (_, None) => Reply::text(400, "Parameters are `picture=input|result` and `lease=n`"),
        },
        (["download", id], Method::Get) => match (task::parse_id(id), claim(request)) {
            (Some(id), Some(claim)) => download(pictures, id, claim.kind),
            (None, _) => Reply::text(400, "Task id is not a number"),
            (_, None) => Reply::text(400, "`picture` is `input` or `result`"),
        },
        (["healthz"], Method::Get) => Reply::text(200, "ok"),
        (["upload", _], _) => Reply::method_not_allowed("POST"),
        (["download", _] | ["healthz"], _) => Reply::method_not_allowed("GET, HEAD"),
        _ => Reply::text(404, "Not found"),
    }
}

/// What the query says; `None` if it makes no sense.
fn claim(request: &Request) -> Option<Claim> {
    let kind = match request.parameter("picture") {
        None => None,
        Some("input") => Some(Kind::Input),
        Some("result") => Some(Kind::Result),
        Some(_) => return None,
    };
    let lease = request.parameter("lease").map(str::parse).transpose().ok()?;
    Some(Claim { kind, lease })
}

fn upload(pictures: &dyn Pictures, id: u64, claim: Claim, request: &Request, body: &mut Body<'_>) -> Reply {
    match form::with_picture(request, body, |picture| store(pictures, id, claim, picture)) {
        Ok(Ok(Placement::Late)) => Reply::text(409, "Task is leased to another"),
        Ok(Ok(_)) => Reply::text(200, ""),
        Ok(Err(error)) if error.kind() == io::ErrorKind::StorageFull => Reply::text(507, "Storage is full"),
        Ok(Err(error)) => Reply::text(500, format!("Error storing image: {error}")),
        Err(fault @ (NoPicture::Missing | NoPicture::Form(_))) => Reply::text(400, fault.to_string()),
    }
}

fn store(pictures: &dyn Pictures, id: u64, claim: Claim, picture: &mut dyn Read) -> io::Result<Placement> {
    let mut draft = pictures.begin()?;
    let mut step = vec![0; STEP];
    loop {
        match picture.read(&mut step) {
            Ok(0) => return draft.commit(id, claim),
            Ok(read) => draft.write(&step[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn download(pictures: &dyn Pictures, id: u64, kind: Option<Kind>) -> Reply {
    let found = match kind {
        Some(kind) => pictures.open(id, kind),
        None => pictures.open(id, Kind::Result).and_then(|result| match result {
            Some(result) => Ok(Some(result)),
            None => pictures.open(id, Kind::Input),
        }),
    };
    match found {
        Ok(Some(picture)) => {
            let body = Payload::Stream {
                length: Some(picture.length),
                source: picture.source,
            };
            Reply::new(200, "image/png", body).with_field(
                "content-disposition",
                format!("attachment; filename=\"{id}.png\""),
            )
        }
        Ok(None) => Reply::text(404, "Image not found"),
        Err(error) => Reply::text(500, format!("Error reading image: {error}")),
    }
}
