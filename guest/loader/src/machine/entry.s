# The three ways in, and the way from 32-bit protected mode to Rust in long mode.

.set MULTIBOOT_HEADER_MAGIC, 0x1badb002
# Wants the memory map; the address fields are valid (QEMU takes a 64-bit ELF file only with them).
.set MULTIBOOT_FLAGS, (1 << 1) | (1 << 16)
# The magic at the start of PVH's start information: PVH itself leaves eax undefined.
.set PVH_MAGIC, 0x336ec578

.set PRESENT_WRITABLE, 0x3
.set PRESENT_WRITABLE_LARGE, 0x83
.set TABLE, 4096
.set LARGE_PAGE, 0x200000
# Large pages in the first 4 GiB.
.set LARGE_PAGES, 2048

.set CPUID_EXTENDED, 0x80000001
.set CPUID_LONG_MODE, 1 << 29
.set CR4_PAE, 1 << 5
.set MSR_EFER, 0xc0000080
.set EFER_LME, 1 << 8
.set CR0_PG_WP, (1 << 31) | (1 << 16)

.section .entry.header, "a"
.balign 4
multiboot_header:
        .long   MULTIBOOT_HEADER_MAGIC
        .long   MULTIBOOT_FLAGS
        .long   -(MULTIBOOT_HEADER_MAGIC + MULTIBOOT_FLAGS)
        .long   multiboot_header
        .long   image_start
        .long   data_end
        .long   image_end
        .long   start_multiboot

.section .note.Xen, "a", @note
.balign 4
        .long   4
        .long   8
        .long   18              # XEN_ELFNOTE_PHYS32_ENTRY
        .asciz  "Xen"
        .quad   start_pvh

.section .entry, "ax"
.code32
start_pvh:
        mov     $PVH_MAGIC, %eax
# Multiboot, and the boot sector: eax says which, ebx points to what they tell.
.globl start_multiboot
start_multiboot:
        cli
        cld
        mov     %eax, %ebp
        mov     %ebx, %esi

        # Without long mode the next instructions would reset the machine without a word.
        mov     $CPUID_EXTENDED, %eax
        cpuid
        test    $CPUID_LONG_MODE, %edx
        jz      no_long_mode

        # Who loads a flat file leaves bytes of its end in bss.
        mov     $bss_start, %edi
        mov     $bss_end, %ecx
        sub     %edi, %ecx
        shr     $2, %ecx
        xor     %eax, %eax
        rep stosl

        # Identity map of the first 4 GiB.
        mov     $page_tables, %edi
        lea     TABLE + PRESENT_WRITABLE(%edi), %eax
        mov     %eax, (%edi)
        lea     TABLE(%edi), %ebx
        mov     $4, %ecx
1:      add     $TABLE, %eax
        mov     %eax, (%ebx)
        add     $8, %ebx
        loop    1b
        lea     2 * TABLE(%edi), %ebx
        mov     $PRESENT_WRITABLE_LARGE, %eax
        mov     $LARGE_PAGES, %ecx
1:      mov     %eax, (%ebx)
        add     $8, %ebx
        add     $LARGE_PAGE, %eax
        loop    1b

        mov     %cr4, %eax
        or      $CR4_PAE, %eax
        mov     %eax, %cr4
        mov     %edi, %cr3
        mov     $MSR_EFER, %ecx
        rdmsr
        or      $EFER_LME, %eax
        wrmsr
        mov     %cr0, %eax
        or      $CR0_PG_WP, %eax
        mov     %eax, %cr0
        lgdt    gdt_pointer
        ljmp    $8, $start_long

# Says so on the console and the control channel, and ends.
no_long_mode:
        mov     $no_long_mode_line, %esi
1:      lodsb
        test    %al, %al
        jz      2f
        mov     ${control}, %dx
        out     %al, %dx
        cmp     $no_long_mode_text, %esi
        jbe     1b
        mov     ${console}, %dx
        out     %al, %dx
        jmp     1b
2:      mov     ${boot_code}, %al
        mov     ${debug_exit}, %dx
        out     %al, %dx
3:      hlt
        jmp     3b
no_long_mode_line:
        .ascii  "end boot 126 "
no_long_mode_text:
        .asciz  "the CPU has no 64-bit mode; choose another one\n"

.code64
start_long:
        mov     $16, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        xor     %eax, %eax
        mov     %eax, %fs
        mov     %eax, %gs
        mov     $stack_end, %esp
        rdtsc
        shl     $32, %rdx
        or      %rax, %rdx
        mov     %ebp, %edi
        mov     %esi, %esi
        xor     %ebp, %ebp
        call    {main}
        ud2

.balign 8
gdt:    .quad   0
        .quad   0x00af9a000000ffff
        .quad   0x00cf92000000ffff
gdt_pointer:
        .word   . - gdt - 1
        .long   gdt

.section .bss.entry, "aw", @nobits
.balign 4096
# PML4, PDPT, four page directories.
page_tables:
        .skip   6 * TABLE

.section .uninit.stack, "aw", @nobits
.balign 4096
        .skip   {stack_size}
stack_end:
