package main

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

var (
	previewColumns = columns{"action", "AGENTS=agents.name", "ISSUER=issuer.name", "EXPIRES=not_after", "TARGETS=targets", "order"}
	freezeColumns  = columns{"name", "STARTS=starts_at", "ENDS=ends_at", "hard", "labels", "BY=created_by", "reason"}
)

type certRenewCmd struct {
	nameArg
	DryRun   bool   `help:"Only say what would be done." env:"-" name:"dry-run"`
	Override string `help:"Renew during a freeze, and why; the reason stands in the order." env:"-" placeholder:"REASON"`
	waiting
}

func (c certRenewCmd) Run(s *session) error {
	body := object{}
	setText(body, "override", c.Override)
	path := item(certificatesPath, c.Name) + "/renew"
	if c.DryRun {
		return s.changeList(path+"/preview", body, previewColumns)
	}
	client, ctx, cancel, err := s.connect()
	if err != nil {
		return err
	}
	defer cancel()
	answer, err := client.call(ctx, http.MethodPost, path, nil, body)
	if err != nil {
		return err
	}
	if c.Wait {
		return s.await(ctx, client, c.Name)
	}
	orders, _ := answer["items"].([]any)
	return s.show(orders, orderColumns)
}

type certPauseCmd struct{ nameArg }

func (c certPauseCmd) Run(s *session) error {
	return s.change(http.MethodPost, item(certificatesPath, c.Name)+"/pause", nil, waiting{})
}

type certResumeCmd struct{ nameArg }

func (c certResumeCmd) Run(s *session) error {
	return s.change(http.MethodPost, item(certificatesPath, c.Name)+"/resume", nil, waiting{})
}

type certExplainCmd struct{ nameArg }

func (c certExplainCmd) Run(s *session) error {
	client, ctx, cancel, err := s.connect()
	if err != nil {
		return err
	}
	defer cancel()
	answer, err := client.call(ctx, http.MethodGet, item(certificatesPath, c.Name)+"/explain", nil, nil)
	if err != nil {
		return err
	}
	if s.globals.Output != "table" {
		return s.showOne(answer)
	}
	fmt.Fprintf(s.out, "%s   %s\n", cell(answer, "certificate.name"), cell(answer, "status"))
	holders, _ := answer["holders"].([]any)
	if len(holders) == 0 {
		fmt.Fprintln(s.out, "   Nobody holds a key of it yet: bind it to a target, or send a request.")
	}
	for _, holder := range holders {
		if name := cell(holder, "agents.name"); name != "" {
			fmt.Fprintf(s.out, "   on %s\n", name)
		}
		sentences, _ := holder.(object)["sentences"].([]any)
		for _, sentence := range sentences {
			fmt.Fprintf(s.out, "      %s\n", sentence)
		}
	}
	return nil
}

type certRecordsCmd struct{ nameArg }

func (c certRecordsCmd) Run(s *session) error {
	return s.list(item(certificatesPath, c.Name)+"/validation-records", params(), 0, columns{
		"ISSUER=issuer.name", "record", "state", "until", "FOUND=message", "value",
	})
}

type planCmd struct {
	Days   int               `help:"How far ahead." default:"90" env:"-"`
	Team   string            `help:"Only of this team." env:"-"`
	Issuer string            `help:"Only of this issuer." env:"-"`
	Label  map[string]string `help:"Only with this label, key=value." env:"-" short:"l"`
}

func (c planCmd) Run(s *session) error {
	client, ctx, cancel, err := s.connect()
	if err != nil {
		return err
	}
	defer cancel()
	query := params("team", c.Team, "issuer", c.Issuer, "days", strconv.Itoa(c.Days))
	for key, value := range c.Label {
		query.Add("label", key+"="+value)
	}
	answer, err := client.call(ctx, http.MethodGet, "/api/v1/renewal-plan", query, nil)
	if err != nil {
		return err
	}
	if s.globals.Output != "table" {
		return s.showOne(answer)
	}
	days, _ := answer["days"].([]any)
	if err := s.show(weeks(days), columns{"WEEK OF=week", "issuer", "renewals", "FULLEST DAY=fullest"}); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "\n%v renewals of %v keys in %d days\n", answer["renewals"], answer["keys"], c.Days)
	s.findings(answer)
	return nil
}

// findings prints what is wrong with a plan, and the rules that come.
func (s *session) findings(plan object) {
	rules, _ := plan["rules"].([]any)
	for _, rule := range rules {
		day, _, _ := strings.Cut(fmt.Sprint(rule.(object)["from"]), "T")
		fmt.Fprintf(s.out, "from %s public CAs give at most %s (%s)\n", day, cell(rule, "max_validity"), cell(rule, "source"))
	}
	findings, _ := plan["findings"].([]any)
	for _, f := range findings {
		day, _, _ := strings.Cut(fmt.Sprint(f.(object)["date"]), "T")
		fmt.Fprintf(s.out, "%s   %s   %s %s\n", day, cell(f, "kind"), cell(f, "name"), cell(f, "message"))
	}
}

// weeks adds up days for people; Monday names the week.
func weeks(days []any) []any {
	type key struct{ week, issuer string }
	counts, fullest := map[key]int{}, map[key]string{}
	most := map[key]int{}
	for _, day := range days {
		date, err := time.Parse(time.DateOnly, fmt.Sprint(day.(object)["date"]))
		n, nErr := strconv.Atoi(cell(day, "renewals"))
		if err != nil || nErr != nil {
			continue
		}
		monday := date.AddDate(0, 0, -(int(date.Weekday())+6)%7)
		k := key{monday.Format(time.DateOnly), cell(day, "issuer")}
		counts[k] += n
		if n > most[k] {
			most[k], fullest[k] = n, fmt.Sprintf("%d on %s", n, date.Format("Mon 02 Jan"))
		}
	}
	keys := make([]key, 0, len(counts))
	for k := range counts {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int { return strings.Compare(a.week+a.issuer, b.week+b.issuer) })
	rows := make([]any, len(keys))
	for i, k := range keys {
		rows[i] = object{"week": k.week, "issuer": k.issuer, "renewals": strconv.Itoa(counts[k]), "fullest": fullest[k]}
	}
	return rows
}

type freezesCmd struct {
	List   freezeListCmd   `cmd:"" help:"List freezes that hold now or will."`
	Create freezeCreateCmd `cmd:"" help:"Hold all ordinary renewals and their installation."`
	End    freezeEndCmd    `cmd:"" aliases:"delete" help:"End one now."`
}

const freezesPath = "/api/v1/freezes"

type freezeListCmd struct {
	All bool `help:"Those that are over as well." env:"-"`
}

func (c freezeListCmd) Run(s *session) error {
	query := url.Values{}
	if c.All {
		query.Set("all", "true")
	}
	return s.list(freezesPath, query, 0, freezeColumns)
}

type freezeCreateCmd struct {
	nameArg
	Reason string            `help:"For those who wonder." env:"-"`
	Label  map[string]string `help:"Only certificates with this label, key=value." env:"-" short:"l"`
	From   string            `help:"When it begins, RFC 3339 or a date; default: now." env:"-" placeholder:"TIME"`
	Until  string            `help:"When it ends, RFC 3339, a date, or a time from now such as 14d; default: when it is ended." env:"-" placeholder:"TIME"`
	Hard   bool              `help:"Hold also what has only a tenth of its life left: certificates may expire." env:"-"`
}

func (c freezeCreateCmd) Run(s *session) error {
	body := object{"name": c.Name, "hard": c.Hard}
	setText(body, "reason", c.Reason)
	if len(c.Label) > 0 {
		body["labels"] = c.Label
	}
	for field, text := range map[string]string{"starts_at": c.From, "ends_at": c.Until} {
		if text == "" {
			continue
		}
		at, err := moment(text)
		if err != nil {
			return err
		}
		body[field] = at.UTC().Format(time.RFC3339)
	}
	return s.change(http.MethodPost, freezesPath, body, waiting{})
}

type freezeEndCmd struct{ nameArg }

func (c freezeEndCmd) Run(s *session) error { return s.remove(freezesPath, c.Name) }

// moment reads a time as people write it.
func moment(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateTime, "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return at, nil
		}
	}
	if from, err := certctl.ParseDuration(text); err == nil {
		return time.Now().Add(time.Duration(from)), nil
	}
	return time.Time{}, certctl.Errorf(certctl.Invalid, "%q is neither a time such as 2026-12-24 or 2026-12-24T18:00:00Z, nor one from now such as 14d", certctl.Clip(text, 40))
}
