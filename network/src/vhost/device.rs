//! What the front end has told: the guest's memory, its rings, and what card and guest agreed on.

use std::fs::File;
use std::io;
use std::sync::Arc;

use rustix::fs::{SealFlags, fcntl_get_seals};
use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVirtioFeatures, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};
use virtio_queue::QueueT as _;
use vm_memory::{GuestAddress, GuestRegionMmap};

use super::ring::{Given, Memory, Ring, Taken, unblock};
use crate::poller::{Interest, Poller, Token};

/// A card's rings, in this order (virtio 1.2, section 5.1.2): what the guest receives, what it sends.
const RINGS: usize = 2;
const RECEIVE: usize = 0;
const SEND: usize = 1;

/// The guest may leave the sums of TCP and UDP to us (virtio 1.2, section 5.1.3).
const CHECKSUM: u64 = 1 << 0;

/// The guest takes our word for them.
const GUEST_CHECKSUM: u64 = 1 << 1;

/// Virtio 1.0 or later: the header has a length that does not depend on other features.
const VERSION_1: u64 = 1 << 32;

pub(super) struct Device {
    id: u32,
    poller: Arc<Poller>,
    memory: Memory,
    /// Where QEMU sees the guest's memory: its address, the guest's, bytes.
    mappings: Vec<(u64, u64, u64)>,
    features: u64,
    rings: Vec<Ring>,
}

impl Device {
    pub(super) fn new(id: u32, poller: Arc<Poller>) -> Self {
        Self {
            id,
            poller,
            memory: Memory::new(),
            mappings: Vec::new(),
            features: 0,
            rings: (0..RINGS).filter_map(|_| Ring::new().ok()).collect(),
        }
    }

    /// Whether the guest takes our word for the sums of TCP and UDP.
    pub(super) fn takes_our_word(&self) -> bool {
        self.features & GUEST_CHECKSUM != 0
    }

    pub(super) fn take(&mut self, buffer: &mut [u8]) -> Taken {
        let ring = &mut self.rings[SEND];
        if !ring.runs() {
            ring.hear();
            return Taken::Nothing;
        }
        ring.take(&self.memory, buffer).unwrap_or_else(|_| {
            self.halt(SEND);
            Taken::Nothing
        })
    }

    pub(super) fn give(&mut self, frame: &[u8], vouched: bool) -> Given {
        let ring = &mut self.rings[RECEIVE];
        if !ring.runs() {
            return Given::Lost;
        }
        ring.give(&self.memory, frame, vouched).unwrap_or_else(|_| {
            self.halt(RECEIVE);
            Given::Lost
        })
    }

    pub(super) fn hear_room(&mut self) {
        self.rings[RECEIVE].hear();
    }

    pub(super) fn tell(&mut self) {
        for ring in self.rings.iter_mut().filter(|ring| ring.runs()) {
            ring.tell(&self.memory);
        }
    }

    /// Stops both rings.
    pub(super) fn stop(&mut self) {
        (0..RINGS).for_each(|index| self.halt(index));
    }

    /// Stops a ring: nobody waits for its guest any more.
    fn halt(&mut self, index: usize) {
        let ring = &mut self.rings[index];
        ring.queue.set_ready(false);
        if let Some(kick) = ring.kick.take() {
            self.poller.remove(&kick);
        }
    }

    fn ring(&mut self, index: u32) -> Result<&mut Ring> {
        self.rings.get_mut(index as usize).ok_or(Error::InvalidParam)
    }

    /// Where the guest sees what QEMU sees at `address`.
    fn guest_address(&self, address: u64) -> Result<u64> {
        let found = self.mappings.iter().find_map(|&(qemu, guest, length)| {
            let offset = address.checked_sub(qemu).filter(|&offset| offset < length)?;
            guest.checked_add(offset)
        });
        found.ok_or(Error::InvalidParam)
    }
}

/// What was not offered is not asked for.
const NOT_OFFERED: Error = Error::InvalidOperation("not offered");

impl VhostUserBackendReqHandlerMut for Device {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.stop();
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        self.stop();
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(VERSION_1 | CHECKSUM | GUEST_CHECKSUM | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits())
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        if features & !self.get_features()? != 0 {
            return Err(Error::FeatureMismatch);
        }
        self.features = features;
        Ok(())
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        let mut mapped = Vec::new();
        self.mappings.clear();
        for (region, file) in regions.iter().zip(files) {
            // A file that could shrink would take our process with it.
            let seals = fcntl_get_seals(&file).map_err(|errno| Error::ReqHandlerError(errno.into()))?;
            if !seals.contains(SealFlags::SHRINK) {
                return Err(Error::InvalidParam);
            }
            let start = GuestAddress(region.guest_phys_addr);
            let region_of_guest = GuestRegionMmap::new(region.mmap_region(file)?, start);
            mapped.push(region_of_guest.ok_or(Error::InvalidParam)?);
            self.mappings
                .push((region.user_addr, region.guest_phys_addr, region.memory_size));
        }
        let memory = Memory::from_regions(mapped);
        self.memory = memory.map_err(|error| Error::ReqHandlerError(io::Error::other(error)))?;
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, size: u32) -> Result<()> {
        let size = u16::try_from(size).map_err(|_| Error::InvalidParam)?;
        let ring = self.ring(index)?;
        ring.queue.try_set_size(size).map_err(|_| Error::InvalidParam)
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptors: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        let [descriptors, used, available] =
            [descriptors, used, available].map(|address| self.guest_address(address).map(GuestAddress));
        let memory = self.memory.clone();
        let queue = &mut self.ring(index)?.queue;
        let (descriptors, used, available) = (descriptors?, used?, available?);
        let set = queue
            .try_set_desc_table_address(descriptors)
            .and_then(|()| queue.try_set_used_ring_address(used))
            .and_then(|()| queue.try_set_avail_ring_address(available))
            // The ring may have been served before, by one that was killed.
            .and_then(|()| queue.used_idx(&memory, std::sync::atomic::Ordering::Acquire));
        let next = set.map_err(|_| Error::InvalidParam)?;
        queue.set_next_used(next.0);
        Ok(())
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        // Its upper half is the packed ring's, which was not offered.
        self.ring(index)?.queue.set_next_avail(base as u16);
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let base = self.ring(index)?.queue.next_avail();
        self.halt(index as usize);
        Ok(VhostUserVringState::new(index, base.into()))
    }

    fn set_vring_kick(&mut self, index: u8, event: Option<File>) -> Result<()> {
        self.ring(index.into())?;
        self.halt(index.into());
        // Without one it would have to be looked at all the time.
        let event = event.ok_or(Error::InvalidParam)?;
        let token = match usize::from(index) {
            SEND => Token::Port(self.id),
            _ => Token::Room(self.id),
        };
        let watch = || {
            unblock(&event)?;
            self.poller.add(&event, token, Interest::READ)
        };
        watch().map_err(Error::ReqHandlerError)?;
        let ring = self.ring(index.into())?;
        ring.kick = Some(event);
        ring.queue.set_ready(true);
        ring.begin();
        Ok(())
    }

    fn set_vring_call(&mut self, index: u8, event: Option<File>) -> Result<()> {
        if let Some(event) = &event {
            unblock(event).map_err(Error::ReqHandlerError)?;
        }
        self.ring(index.into())?.call = event;
        Ok(())
    }

    fn set_vring_err(&mut self, _index: u8, _event: Option<File>) -> Result<()> {
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        // An answer to each message would be waited for where none comes: see `SharedCard::converse`.
        Ok(VhostUserProtocolFeatures::empty())
    }

    fn set_protocol_features(&mut self, _features: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(RINGS as u64)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        let ring = self.ring(index)?;
        ring.is_enabled = enable;
        ring.begin();
        Ok(())
    }

    fn get_config(&mut self, _offset: u32, _size: u32, _flags: VhostUserConfigFlags) -> Result<Vec<u8>> {
        Err(NOT_OFFERED)
    }

    fn set_config(&mut self, _offset: u32, _bytes: &[u8], _flags: VhostUserConfigFlags) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn set_gpu_socket(&mut self, _gpu: GpuBackend) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn get_shared_object(&mut self, _uuid: VhostUserSharedMsg) -> Result<File> {
        Err(NOT_OFFERED)
    }

    fn get_inflight_fd(&mut self, _inflight: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        Err(NOT_OFFERED)
    }

    fn set_inflight_fd(&mut self, _inflight: &VhostUserInflight, _file: File) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Err(NOT_OFFERED)
    }

    fn add_mem_region(
        &mut self,
        _region: &VhostUserSingleMemoryRegion,
        _file: File,
        _postcopy: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        Err(NOT_OFFERED)
    }

    fn remove_mem_region(&mut self, _region: &VhostUserSingleMemoryRegion) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn set_device_state_fd(
        &mut self,
        _direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        _file: File,
    ) -> Result<Option<File>> {
        Err(NOT_OFFERED)
    }

    fn check_device_state(&mut self) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        Err(NOT_OFFERED)
    }

    fn set_log_base(&mut self, _log: &VhostUserLog, _file: File) -> Result<()> {
        Err(NOT_OFFERED)
    }
}
