# One stub for each exception. All end in Rust with a frame of one shape: vector, error code, rip, cs, rflags, rsp.

.section .text.exceptions, "ax"
.globl exception_stubs
exception_stubs:
.set vector, 0
.rept 32
.balign 16
.if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30
.else
        push    $0
.endif
        push    $vector
        jmp     exception_common
.set vector, vector + 1
.endr

exception_common:
        cld
        mov     %rsp, %rdi
        mov     %cr2, %rsi
        and     $-16, %rsp
        call    {exception}
        ud2
