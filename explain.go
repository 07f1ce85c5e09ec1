package certctl

import (
	"fmt"
	"strings"
	"time"
)

// Explanation is why a certificate is or is not renewed, and what happens next.
type Explanation struct {
	Certificate Certificate
	Issuer      Issuer   // the one that is asked first; absent when monitored
	Freezes     []Freeze // that hold it now
	Holders     []HolderExplanation
	At          time.Time // the database's clock
}

// HolderExplanation is the part of one key.
type HolderExplanation struct {
	Holder   Holder
	Version  Version // the newest; absent before the first
	Facts    HolderFacts
	Decision Decision
	Order    Order         // the live one; absent without
	Advice   RenewalAdvice // what the CA says of the version
}

// RenewalPreview is what a renewal by hand would do for one key.
type RenewalPreview struct {
	Holder   Holder
	Action   PreviewAction
	Order    ID // that is open already
	Issuer   Ref
	NotAfter time.Time // of the leaf, if it were issued now
	Targets  []string  // that it would be installed on
}

// PreviewAction is what a renewal does.
type PreviewAction string

// What a renewal does about a key.
const (
	PreviewOrder PreviewAction = "order" // makes a new order
	PreviewHurry PreviewAction = "hurry" // ends the waiting of the open one
	PreviewLeave PreviewAction = "leave" // the open one is at the issuer
)

// Sentences says for a person where the key stands, what keeps it and what to
// do, the most important first.
func (e Explanation) Sentences(h HolderExplanation) []string {
	var say []string
	add := func(format string, args ...any) { say = append(say, fmt.Sprintf(format, args...)) }
	if h.Version.ID.IsZero() {
		add("There is no leaf yet.")
	} else {
		add("The leaf %s ends %s.", h.Version.Serial, when(h.Version.NotAfter, e.At))
	}
	if h.Holder.Kind == HolderShared {
		say = append(say, h.Holder.keySentences(!h.Version.ID.IsZero())...)
	}
	if !h.Order.ID.IsZero() {
		add("%s", e.orderSentence(h))
		if h.Order.Message != "" {
			add("The last answer: %s", strings.TrimSuffix(h.Order.Message, ".")+".")
		}
		return say
	}
	add("%s", e.decisionSentence(h))
	say = append(say, e.adviceSentences(h.Advice)...)
	if h.Facts.Deployed > 0 && h.Facts.Verified == 0 && !h.Version.ID.IsZero() {
		add("Its newest leaf is verified on none of its %d targets: no further one is made before half of its life has passed.", h.Facts.Deployed)
	}
	return say
}

// adviceSentences say what the CA would have.
func (e Explanation) adviceSentences(a RenewalAdvice) []string {
	var say []string
	switch {
	case !a.RecalledAt.IsZero():
		say = append(say, fmt.Sprintf("Its CA wants it replaced at once, as was found %s.", when(a.RecalledAt, e.At)))
	case !a.Window.Start.IsZero():
		say = append(say, fmt.Sprintf("Its CA suggests a renewal between %s and %s.", when(a.Window.Start, e.At), when(a.Window.End, e.At)))
	}
	if a.ExplanationURL != "" {
		say = append(say, "The CA explains: "+a.ExplanationURL)
	}
	if a.Message != "" {
		say = append(say, "Asked when to renew it, the CA did not answer as it should: "+strings.TrimSuffix(a.Message, ".")+".")
	}
	return say
}

func (e Explanation) orderSentence(h HolderExplanation) string {
	o := h.Order
	text := fmt.Sprintf("The order %s is %s", o.ID, strings.ReplaceAll(string(o.State), "_", " "))
	switch {
	case e.Certificate.Paused:
		return text + ", and waits because the certificate is paused: resume it."
	case e.Issuer.Paused && o.State == OrderReady:
		return text + fmt.Sprintf(", and waits because the issuer %s is paused: resume it.", e.Issuer.Name)
	}
	switch o.Wait {
	case WaitHolder:
		if o.Maker.Name != "" {
			return text + fmt.Sprintf(": it waits for agent %s to make the key and seal it for the others; another one is asked if it does not.", o.Maker.Name)
		}
		return text + fmt.Sprintf(": it waits for %s to make a key and send its request.", holderName(h.Holder))
	case WaitCSR:
		return text + ": it waits for the client's request (certctl certificates csr)."
	case WaitApproval:
		return text + ": it waits for an approval."
	case WaitParked:
		return text + ": work on it was given up, see the dead letters."
	case WaitNone:
		return text + "."
	}
	return text + fmt.Sprintf(" and waits (%s) until %s, after %d attempts.", strings.ReplaceAll(string(o.Wait), "_", " "), when(o.DueAt, e.At), o.Attempts)
}

func (e Explanation) decisionSentence(h HolderExplanation) string {
	d := h.Decision
	switch {
	case !e.Certificate.ArchivedAt.IsZero():
		return "The certificate is archived: nothing is done about it."
	case len(e.Certificate.Issuers) == 0:
		return "It has no issuer and is only watched: give it one to have it renewed."
	case d.Wait == WaitPaused:
		return "The certificate is paused: nothing happens until it is resumed."
	case d.Due:
		return fmt.Sprintf("It is due now (%s): an order comes within moments.", strings.ReplaceAll(d.Reason, "_", " "))
	case d.Wait == WaitFreeze:
		return fmt.Sprintf("It is due (%s), but the freeze %s holds it; it is looked at again %s.", strings.ReplaceAll(d.Reason, "_", " "), e.freezeNames(), when(d.At, e.At))
	case d.Wait == WaitWindow:
		return fmt.Sprintf("It is due (%s) and waits for a change window of the policy %s, which opens %s.", strings.ReplaceAll(d.Reason, "_", " "), e.Certificate.RenewalPolicy.Name, when(d.At, e.At))
	case d.Reason == DueKey:
		return fmt.Sprintf("Members wait for a key that nobody on line has: unless one comes, there is a new key %s.", when(d.At, e.At))
	case d.Wait == WaitGuard:
		return fmt.Sprintf("The certificate has changed, as have so many that the guard holds them: certctl guard release lets all of them go, a rollout takes them in waves. Otherwise it is renewed %s.", when(d.At, e.At))
	case d.Reason == DueRenewAt && d.At.After(h.Facts.RenewAt) && len(e.Freezes) > 0:
		return fmt.Sprintf("Its time by the policy %s is %s, but the freeze %s holds it: it will be renewed %s.",
			e.Certificate.RenewalPolicy.Name, when(h.Facts.RenewAt, e.At), e.freezeNames(), when(d.At, e.At))
	case d.Reason != "":
		return fmt.Sprintf("It will be renewed %s, by the policy %s.", when(d.At, e.At), e.Certificate.RenewalPolicy.Name)
	}
	return fmt.Sprintf("It is never renewed by itself: the policy %s has auto_renew off.", e.Certificate.RenewalPolicy.Name)
}

func (e Explanation) freezeNames() string {
	names := make([]string, len(e.Freezes))
	for i, f := range e.Freezes {
		names[i] = f.Name
	}
	return strings.Join(names, ", ")
}

func holderName(h Holder) string {
	if len(h.Members) == 0 {
		return "its client"
	}
	names := make([]string, len(h.Members))
	for i, m := range h.Members {
		names[i] = m.Name
	}
	return "agent " + strings.Join(names, ", ")
}

// when says a time as people do: the date, and how far it is away.
func when(at, now time.Time) string {
	if at.IsZero() {
		return "at no set time"
	}
	away := at.Sub(now)
	text := at.UTC().Format("2006-01-02 15:04 MST")
	switch span := Duration(away.Abs().Truncate(time.Minute)); {
	case away.Abs() < time.Minute:
		return text + " (now)"
	case away > 0:
		return text + " (in " + span.short() + ")"
	default:
		return text + " (" + span.short() + " ago)"
	}
}

// short is the text form in the two largest units.
func (d Duration) short() string {
	days, rest := time.Duration(d)/Day, time.Duration(d)%Day
	hours, minutes := rest/time.Hour, rest%time.Hour/time.Minute
	switch {
	case days > 0 && hours > 0:
		return fmt.Sprintf("%dd%dh", days, hours)
	case days > 0:
		return fmt.Sprintf("%dd", days)
	case hours > 0 && minutes > 0:
		return fmt.Sprintf("%dh%dm", hours, minutes)
	case hours > 0:
		return fmt.Sprintf("%dh", hours)
	}
	return fmt.Sprintf("%dm", minutes)
}
