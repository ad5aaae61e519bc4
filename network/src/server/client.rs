//! A user of a network: lines, and the descriptors that come with them.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::control::{MAX_LINE, Reply};

/// Most descriptors that wait for their line: one comes with each.
const MAX_DESCRIPTORS: usize = 4;

#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    received: Vec<u8>,
    pub(super) descriptors: VecDeque<OwnedFd>,
    /// The guests that it attached.
    pub(super) ports: Vec<u32>,
}

impl Client {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            received: Vec::new(),
            descriptors: VecDeque::new(),
            ports: Vec::new(),
        }
    }

    /// Takes what has come. An error: the user is gone, or says too much.
    pub(super) fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let got = recvmsg(
                &self.stream,
                &mut [IoSliceMut::new(&mut buffer)],
                &mut ancillary,
                flags,
            );
            let length = match got {
                Ok(got) => got.bytes,
                Err(Errno::WOULDBLOCK) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    self.descriptors.extend(descriptors);
                }
            }
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.received.extend_from_slice(&buffer[..length]);
            if self.descriptors.len() > MAX_DESCRIPTORS || self.received.len() > MAX_LINE {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
    }

    /// The next line, without its end.
    pub(super) fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.received.iter().position(|&byte| byte == b'\n')?;
        let rest = self.received.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.received, rest);
        line.pop();
        Some(line)
    }

    /// Answers. A user that does not read its answers is an error: the loop waits for nobody.
    pub(super) fn send(&mut self, reply: &Reply) -> io::Result<()> {
        let mut line = serde_json::to_vec(reply)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }
}
