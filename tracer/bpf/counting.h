/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Counts events (struct counters in event.h). */
#ifndef TFOTRACE_COUNTING_H
#define TFOTRACE_COUNTING_H

#include "pair.h"

/* What came of a packet that is no TCP segment. */
static __always_inline void count_result(struct counters *c, int result)
{
	switch (result) {
	case PARSED_ICMP:
	case PARSED_OTHER:
	case PARSED_CUT:
		c->not_tcp++;
		break;
	case PARSED_FRAGMENT:
		c->fragments++;
		break;
	case NOT_READ_GRE:
		c->not_read_gre++;
		break;
	case NOT_READ_VXLAN:
		c->not_read_vxlan++;
		break;
	case NOT_READ_GENEVE:
		c->not_read_geneve++;
		break;
	case NOT_READ_GTP:
		c->not_read_gtp++;
		break;
	case NOT_READ_IPIP:
		c->not_read_ipip++;
		break;
	case NOT_READ_MPLS:
		c->not_read_mpls++;
		break;
	case NOT_READ_PPPOE:
		c->not_read_pppoe++;
		break;
	case NOT_READ_VLAN:
		c->not_read_vlan++;
		break;
	case NOT_READ_SGT:
		c->not_read_sgt++;
		break;
	case BAD_ETHERNET:
		c->malformed_ethernet++;
		break;
	case BAD_IP_HEADER:
		c->malformed_ip_header++;
		break;
	case BAD_IP_LENGTH:
		c->malformed_ip_length++;
		break;
	case BAD_IP_EXTENSION:
		c->malformed_ip_extension++;
		break;
	case BAD_TCP_HEADER:
		c->malformed_tcp_header++;
		break;
	case BAD_TCP_OFFSET:
		c->malformed_tcp_offset++;
		break;
	}
}

static __always_inline void count_option_errors(struct counters *c, __u32 errors)
{
	if (errors & OPTION_ERROR_CUT)
		c->malformed_option_cut++;
	if (errors & OPTION_ERROR_LENGTH)
		c->malformed_option_length++;
	if (errors & OPTION_ERROR_OVERRUN)
		c->malformed_option_overrun++;
	if (errors & OPTION_ERROR_SIZE)
		c->malformed_option_size++;
	if (errors & OPTION_ERROR_TFO)
		c->tfo_malformed++;
}

static __always_inline void count_note(struct counters *c, int note)
{
	if (note & NOTE_SEEN_AGAIN)
		c->seen_again++;
	if (note & NOTE_STRAY_ACK)
		c->synack_stray_ack++;
	if (note & NOTE_ODD_ACK)
		c->synack_odd_ack++;
	if (note & NOTE_LATE_SYN)
		c->late_syns++;
	if (note & NOTE_UNSOLICITED)
		c->tfo_unsolicited++;
	if (note & NOTE_OPENED_AGAIN)
		c->opened++;
}

static __always_inline void count_evicted(struct counters *c, int state)
{
	if (state == PENDING_SYN_SENT)
		c->evicted_unanswered++;
	else if (state == PENDING_SYN_ACKED)
		c->evicted_half_open++;
	else if (state == PENDING_ESTABLISHED)
		c->evicted_awaiting_response++;
}

#endif
