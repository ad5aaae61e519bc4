# From the BIOS to the loader. Real mode, then 32-bit protected mode; dl holds the BIOS's number of the disk.

# First sector of the loader, `formats/disk/src/layout.rs`.
.set LOADER_LBA, 64
# Where the loader is gathered below 1 MiB, as a segment: 512 KiB up to 0x90000 are free on any PC.
.set GATHER, 0x1000
# Sectors of one read: 32 KiB, which no BIOS refuses and no segment splits.
.set CHUNK, 64
# Where the loader belongs, and where its ELF header names its entry.
.set LOADER, 0x100000
.set ELF_ENTRY, LOADER + 0x18
# What the loader finds in eax; ebx points to the memory map.
.set MAGIC, 0x48424f54
# The memory map: count u32, unused u32, then entries of 24 bytes as the BIOS gives them.
.set MAP, 0x1000
.set MAP_ENTRIES, 127
.set SMAP, 0x534d4150

.set CONSOLE, 0x3f8
.set CONTROL, 0x2f8
.set DEBUG_EXIT, 0xf4
.set EXIT_BOOT, 126

.section .boot, "awx"
.code16
.globl start
start:
        cli
        cld
        xor     %ax, %ax
        mov     %ax, %ds
        mov     %ax, %es
        mov     %ax, %ss
        mov     $start, %sp
        ljmp    $0, $1f
1:      sti

        # Reads the loader in chunks and sums it up in ebx.
        mov     loader_sectors, %bp
        xor     %ebx, %ebx
read:   mov     $CHUNK, %ax
        cmp     %ax, %bp
        ja      1f
        mov     %bp, %ax
1:      mov     %ax, packet_count
        push    %ax
        mov     $packet, %si
        mov     $0x42, %ah
        int     $0x13
        pop     %cx
        jc      failed
        sub     %cx, %bp
        add     %cx, packet_lba
        push    %cx
        push    %ds
        mov     packet_segment, %ds
        xor     %si, %si
        shl     $7, %cx
1:      lodsl
        add     %eax, %ebx
        loop    1b
        pop     %ds
        pop     %cx
        shl     $5, %cx
        add     %cx, packet_segment
        test    %bp, %bp
        jnz     read
        add     loader_checksum, %ebx
        jnz     failed

        # The memory map. An old BIOS leaves the attributes alone: they are set to "valid" first.
        mov     $MAP + 8, %di
        xor     %si, %si
1:      movl    $1, 20(%di)
        mov     $0xe820, %eax
        mov     $24, %ecx
        mov     $SMAP, %edx
        int     $0x15
        jc      2f
        cmp     $SMAP, %eax
        jne     2f
        add     $24, %di
        inc     %si
        test    %ebx, %ebx
        jz      2f
        cmp     $MAP_ENTRIES, %si
        jb      1b
2:      mov     %si, MAP
        movw    $0, MAP + 2

        # Address line 20, by the BIOS and by the port that everything newer than 1990 has.
        mov     $0x2401, %ax
        int     $0x15
        in      $0x92, %al
        or      $2, %al
        and     $0xfe, %al
        out     %al, $0x92

        cli
        lgdt    gdt_pointer
        mov     %cr0, %eax
        or      $1, %al
        mov     %eax, %cr0
        ljmp    $8, $protected

# Says what is wrong on the screen, the console and the control channel, then ends.
failed: mov     $message, %si
1:      lodsb
        test    %al, %al
        jz      2f
        mov     $CONTROL, %dx
        call    send
        cmp     $text, %si
        jbe     1b
        mov     $CONSOLE, %dx
        call    send
        mov     $0x0e, %ah
        mov     $7, %bx
        int     $0x10
        jmp     1b
2:      mov     $EXIT_BOOT, %al
        out     %al, $DEBUG_EXIT
3:      hlt
        jmp     3b

# Sends al to the UART at dx when it is ready, or after a while.
send:   push    %ax
        add     $5, %dx
        xor     %cx, %cx
1:      in      %dx, %al
        test    $0x20, %al
        loopz   1b
        sub     $5, %dx
        pop     %ax
        out     %al, %dx
        ret

.code32
protected:
        mov     $16, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     $GATHER << 4, %esi
        mov     $LOADER, %edi
        movzwl  loader_sectors, %ecx
        shl     $7, %ecx
        rep movsl
        mov     $MAGIC, %eax
        mov     $MAP, %ebx
        jmp     *ELF_ENTRY

.balign 8
gdt:    .quad   0
        .quad   0x00cf9a000000ffff
        .quad   0x00cf92000000ffff
gdt_pointer:
        .word   . - gdt - 1
        .long   gdt

.balign 4
packet: .byte   16, 0
packet_count:
        .word   0
        .word   0
packet_segment:
        .word   GATHER
packet_lba:
        .quad   LOADER_LBA

message:
        .ascii  "end boot 126 "
text:   .asciz  "the disk's loader cannot be read, or is damaged\n"
